package registry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BenchmarkRetag retags an image of 500 MB (ten layers of 50 MB, with provenance and SBOM) to a
// production repository that does not exist yet. It reports the median and how many bytes the process
// read and wrote per retag, which would show a copied layer.
func BenchmarkRetag(b *testing.B) {
	w := newWorld(b)
	rng := rand.NewChaCha8([32]byte{1})
	img := v1.Image(empty.Image)
	for range 10 {
		data := make([]byte, 50_000_000)
		_, _ = rng.Read(data)
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(data, types.OCIUncompressedLayer)); err != nil {
			b.Fatal(err)
		}
	}
	w.mustPush("dev", "shop/delivery:v1.0.2", img)
	for _, kind := range []string{"application/spdx+json", "application/vnd.in-toto+json"} {
		r := referrer(b, img, kind)
		w.mustPush("dev", "shop/delivery@"+digestOf(b, r), r)
	}
	digest := digestOf(b, img)
	var times []time.Duration
	before := processIO(b)
	i := 0
	for b.Loop() {
		start := time.Now()
		if err := w.reg.Retag(b.Context(), "shop/delivery", digest, fmt.Sprintf("prod/shop/delivery%d", i), "v1.0.2"); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
		i++
	}
	after := processIO(b)
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(after-before)/float64(len(times)), "io-bytes/op")
	if perRetag := (after - before) / int64(len(times)); perRetag > 1<<20 {
		b.Errorf("%d bytes were read and written per retag", perRetag)
	}
}

var ioExpr = regexp.MustCompile(`(?m)^[rw]char: (\d+)$`)

// processIO is how many bytes this process has read and written.
func processIO(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip("needs /proc/self/io")
	}
	var sum int64
	for _, m := range ioExpr.FindAllSubmatch(bytes.TrimSpace(text), -1) {
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}
