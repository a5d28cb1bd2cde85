package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-cd/slipway"
)

// folder is a results folder with these files; those named testdata/... are taken from there.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		data := []byte(body)
		if strings.HasPrefix(body, "testdata/") {
			var err error
			if data, err = os.ReadFile(body); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A report of 2 GB is read up to the limit, and says so; what was read counts.
func TestLargeReport(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"big.xml": `<testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="no"/></testcase><system-out>`})
	if err := os.Truncate(filepath.Join(dir, "big.xml"), 2<<30); err != nil {
		t.Fatal(err)
	}
	r := Read(dir)
	if r.Passed != 1 || r.Failed != 1 || len(r.Files) != 1 || len(r.Notes) != 1 ||
		strings.Join(r.Problems, ";") != "big.xml: has 2048 MiB; what comes after the first 64 is not read" || !strings.HasPrefix(r.Notes[0], "big.xml: not kept as an attachment") {
		t.Errorf("%+v", r)
	}
	if len(r.Attachments) != 0 {
		t.Errorf("%+v", r.Attachments)
	}
}

func TestNothingButFilesIsOpened(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"good.xml": green(), "outside/secret.xml": green()})
	results := filepath.Join(dir, "results")
	for _, err := range []error{
		os.Mkdir(results, 0o755),
		os.Rename(filepath.Join(dir, "good.xml"), filepath.Join(results, "good.xml")),
		os.Link(filepath.Join(dir, "outside/secret.xml"), filepath.Join(results, "hard.xml")),
		os.Symlink("../outside/secret.xml", filepath.Join(results, "soft.xml")),
		os.Symlink("../outside", filepath.Join(results, "folder")),
		syscall.Mkfifo(filepath.Join(results, "pipe.xml"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := Read(results)
	want := []string{"pipe.xml: is a pipe, which is not followed or opened",
		"soft.xml: is a link, which is not followed or opened", "hard.xml: is a hard link, which is not read"}
	if strings.Join(r.Problems, "; ") != strings.Join(want, "; ") || strings.Join(r.Notes, "; ") != "folder: is a link, which is not followed or opened" || r.Passed != 1 || len(r.Attachments) != 1 {
		t.Errorf("%+v", r)
	}
	root, err := os.OpenRoot(results)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, _, err := open(root, "pipe.xml"); err == nil { // became one after it was listed
		t.Error("a pipe was opened")
	}
	if _, _, err := open(root, "soft.xml"); err == nil {
		t.Error("a link was followed")
	}
}

func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	r := Read(folder(t, map[string]string{
		"a.xml": green(), "b.trx": "testdata/vstest.trx", "go/report.json": "testdata/gotest_subtests.json", "package.json": `{"name": "cart"}`,
		"notes.json": "{\"level\": \"info\"}\n", "cover.out": "testdata/gocover.txt", "go/again.out": "mode: count\nexample.com/cart/ok/ok.go:10.19,10.31 1 7\n",
		"js/coverage.xml": "testdata/coverlet.xml", "js/lcov.info": "testdata/lcov.info", "other/lcov.info": "SF:b.js\nDA:1,1\nDA:2,0\nend_of_record\n",
	}))
	if strings.Join(r.Files, " ") != "a.xml b.trx go/report.json" || len(r.Problems) != 0 {
		t.Errorf("files %q, problems %q", r.Files, r.Problems)
	}
	var got []string
	for _, f := range r.Coverage.Files {
		got = append(got, fmt.Sprintf("%s %d/%d", f.Path, f.Covered, f.Total))
	}
	// lcov.info beside the Cobertura report is not counted again.
	if want := "Shop/Mail.cs 0/1 b.js 1/2 Shop/Cart.cs 2/3 example.com/cart/ok/ok.go 3/4"; strings.Join(got, " ") != want || r.Coverage.Covered != 6 || r.Coverage.Total != 10 {
		t.Errorf("got %q (%d of %d)\nwant %q", strings.Join(got, " "), r.Coverage.Covered, r.Coverage.Total, want)
	}
}

func TestBrokenCoverage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, problem string }{
		"cover.out":    {"mode: set\nfile.go:1.2,3.4 1 1\nfile.go:nonsense\n", `cover.out: line 3: "file.go:nonsense" is no block of a file`},
		"lcov.info":    {"TN:\nSF:a.js\nDA:x,1\n", `lcov.info: line 3: "DA:x,1" is no line of a file`},
		"coverage.xml": {"<coverage><packages><package><classes><class filename='a'><lines>\n<line number='1' hits='1'/>", "coverage.xml: line 2: the file ends within an element"},
	} {
		r := read(t, name, c.body)
		if strings.Join(r.Problems, "; ") != c.problem || len(r.Files) != 0 {
			t.Errorf("%s: %q", name, r.Problems)
		}
	}
	var many strings.Builder
	many.WriteString("mode: set\n")
	for i := range maxCoveredFiles + 50 {
		fmt.Fprintf(&many, "f%d.go:1.1,2.2 10 %d\n", i, i%2)
	}
	if r := read(t, "c.out", many.String()); len(r.Coverage.Files) != maxCoveredFiles || r.Coverage.Total != 2500 || r.Coverage.Covered != 1250 || r.Coverage.Files[0].Covered != 0 {
		t.Errorf("%d files, %d of %d", len(r.Coverage.Files), r.Coverage.Covered, r.Coverage.Total)
	}
}

// keeper keeps nothing but what it was given.
type keeper struct {
	kept map[string]string
	err  error
}

func (k *keeper) Keep(run int64, r io.Reader) (string, int64, error) {
	b, err := io.ReadAll(r)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
	k.kept[digest] = fmt.Sprintf("%d %s", run, b)
	return digest, int64(len(b)), errors.Join(err, k.err)
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"junit/results.xml":                                  "testdata/playwright.xml",
		"test-results/cart-pays/test-failed-1.png":           "picture",
		"net/run.trx":                                        "testdata/mstest_rows.trx",
		"net/ada_CI_2026-11-21_12_00_00/In/e3/CI/totals.png": "totals",
		"net/ada_CI_2026-11-21_12_00_00/In/CI/coverage.log":  "collected",
		"app.log": "a log", "empty.log": "",
		"abs.xml": `<testsuite><testcase name="x"><system-out>[[ATTACHMENT|/src/TestResults/app.log]] [[ATTACHMENT|/etc/passwd]] [[ATTACHMENT|../../../etc/passwd]]</system-out></testcase></testsuite>`,
	})
	report := Read(dir)
	k := &keeper{kept: map[string]string{}}
	if err := keep(context.Background(), k, 7, dir, &report); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range report.Attachments {
		if !strings.HasPrefix(a.Name, "junit/") && !strings.HasPrefix(a.Name, "net/run") && a.Name != "abs.xml" {
			got = append(got, fmt.Sprintf("%s (%s): %s", a.Name, a.Case, k.kept[a.Digest]))
		}
	}
	want := []string{"app.log (x): 7 a log", "test-results/cart-pays/test-failed-1.png (cart › pays): 7 picture",
		"net/ada_CI_2026-11-21_12_00_00/In/e3/CI/totals.png (Totals (2,2)): 7 totals", "net/ada_CI_2026-11-21_12_00_00/In/CI/coverage.log (): 7 collected"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || len(report.Attachments) != 7 || len(report.Problems) != 0 {
		t.Errorf("got\n%s\nwant\n%s\n%d attachments, problems %q", strings.Join(got, "\n"), strings.Join(want, "\n"), len(report.Attachments), report.Problems)
	}
	if err := keep(context.Background(), nil, 7, dir, &report); err != nil || report.Attachments != nil {
		t.Errorf("without a keeper: %v %+v", err, report.Attachments)
	}
	report = Read(dir)
	if err := keep(context.Background(), &keeper{kept: map[string]string{}, err: errors.New("disk full")}, 7, dir, &report); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
}

func TestAttachmentsAreBounded(t *testing.T) {
	t.Parallel()
	files := map[string]string{"r.xml": green()}
	for i := range maxAttachments + 20 {
		files[fmt.Sprintf("html/%04d.html", i)] = "page"
	}
	dir := folder(t, files)
	if err := os.WriteFile(filepath.Join(dir, "dump.bin"), make([]byte, maxAttachment+1), 0o644); err != nil {
		t.Fatal(err)
	}
	r := Read(dir)
	if len(r.Attachments) != maxAttachments || r.Attachments[0].Name != "r.xml" || len(r.Problems) != 0 || len(r.Notes) != 1 ||
		!strings.HasPrefix(r.Notes[0], "dump.bin: not kept as an attachment, and 21 more: at most 200 files are") {
		t.Errorf("%d attachments, problems %q, notes %q", len(r.Attachments), r.Problems, r.Notes)
	}
}

// large is a JUnit file with n cases, each fifth with output and each hundredth failed.
func large(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><testsuites>`)
	for i := range n {
		if i%500 == 0 {
			if i > 0 {
				b.WriteString("</testsuite>")
			}
			fmt.Fprintf(&b, `<testsuite name="com.example.Suite%d" tests="500" failures="5" errors="0" skipped="0" time="1.5">`, i/500)
		}
		fmt.Fprintf(&b, "\n  <testcase name=\"does what it says %d\" classname=\"com.example.Suite%d\" time=\"0.003\"", i, i/500)
		switch {
		case i%100 == 7:
			fmt.Fprintf(&b, `><failure message="expected: &lt;%d&gt;" type="AssertionError"><![CDATA[%s]]></failure></testcase>`, i, strings.Repeat("at com.example.Suite.test(Suite.java:12)\n", 20))
		case i%5 == 0:
			fmt.Fprintf(&b, "><system-out>%s</system-out></testcase>", strings.Repeat("a line of the log\n", 5))
		default:
			b.WriteString("/>")
		}
	}
	b.WriteString("</testsuite></testsuites>")
	return b.Bytes()
}

// BenchmarkJUnit reads a file of 50,000 cases: at most 1 s and 100 MiB.
func BenchmarkJUnit(b *testing.B) {
	dir := b.TempDir()
	data := large(50_000)
	if err := os.WriteFile(filepath.Join(dir, "junit.xml"), data, 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	peak := uint64(0)
	var r slipway.TestReport
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r = Read(dir)
		runtime.ReadMemStats(&after)
		peak = max(peak, after.HeapSys-after.HeapReleased)
	}
	b.ReportMetric(float64(peak)/(1<<20), "MiB-heap")
	if r.Passed+r.Failed != 50_000 || r.Failed != 500 {
		b.Errorf("%d passed, %d failed", r.Passed, r.Failed)
	}
}
