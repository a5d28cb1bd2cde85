package scanner

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
	"unsafe"

	"github.com/rs/zerolog"
	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/report"
)

const (
	maxSearched = 2 << 20 // bytes of a file that is searched
	maxSecrets  = 500     // findings of one image or folder
)

// Patterns finds secrets. It is safe for concurrent use.
type Patterns struct {
	detector *detect.Detector
}

// NewPatterns takes those patterns of gitleaks that know a secret by its own form: a prefix, a frame. Those
// that guess by the words around it are left out, as they find passwords in every manual page.
func NewPatterns() (*Patterns, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	d, err := detect.NewDetectorDefaultConfig()
	if err != nil {
		return nil, fmt.Errorf("read the patterns of secrets: %w", err)
	}
	cfg := d.Config
	keywords := map[string]struct{}{}
	for id, rule := range cfg.Rules {
		if rule.Regex == nil || guesses(id, rule.Regex.String()) {
			delete(cfg.Rules, id)
			continue
		}
		for _, k := range rule.Keywords {
			keywords[strings.ToLower(k)] = struct{}{}
		}
	}
	cfg.Keywords = keywords
	d = detect.NewDetector(cfg)
	d.IgnoreGitleaksAllow = true // what is allowed is said by waivers
	return &Patterns{detector: d}, nil
}

// guesses reports whether a pattern needs the words around a secret to know it.
func guesses(id, expr string) bool {
	switch id {
	case "generic-api-key", "curl-auth-header", "curl-auth-user", "jwt", "jwt-base64", "sourcegraph-access-token", "hashicorp-tf-password":
		return true
	}
	return strings.HasPrefix(expr, `(?i)[\w.-]{0,50}?(?:`) || strings.HasPrefix(expr, `[\w.-]{0,50}?(?i:`) || strings.HasPrefix(expr, `[\w.-]{0,50}?`)
}

// find searches a text.
func (p *Patterns) find(ctx context.Context, text []byte, name string) []report.Finding {
	// The detector reads the text only while it is called.
	return p.detector.DetectContext(ctx, detect.Fragment{Raw: unsafe.String(unsafe.SliceData(text), len(text)), FilePath: name})
}

// place is where a text is from.
type place struct {
	path   string
	layer  string // digest
	number int    // of the layer
	apart  bool   // it is no file: there is no line to look at
}

// secret is a finding with what decides whether two are the same one.
type secret struct {
	Finding
	number int // of its layer
	value  string
}

// search gathers the secrets of one image or folder. It is safe for concurrent use.
type search struct {
	ctx      context.Context //nolint:containedctx // it lives as long as one request
	patterns *Patterns
	buffers  sync.Pool

	mu    sync.Mutex
	found []secret
	full  bool
}

func newSearch(ctx context.Context, p *Patterns) *search {
	return &search{ctx: ctx, patterns: p, buffers: sync.Pool{New: func() any { b := make([]byte, maxSearched); return &b }}}
}

// skips are files of packages in which keys and tokens are samples for tests and manuals, and compiled ones.
func (s *search) skips(name string) bool {
	for _, dir := range []string{"usr/share/", "usr/lib/", "usr/local/lib/", "usr/local/go/", "usr/local/share/", "usr/src/linux", "lib/", "lib64/", "proc/", "sys/", "var/lib/dpkg/", "lib/apk/", "var/lib/apk/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return strings.Contains(name, "node_modules/") || strings.HasPrefix(name, "go/pkg/mod/") || strings.HasPrefix(name, "root/go/pkg/mod/")
}

// reader searches what r holds, up to maxSearched bytes, and reads no further than the start of what is not
// text.
func (s *search) reader(r io.Reader, at place) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	b := *buf
	n, err := io.ReadFull(r, b[:8000])
	end := err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !end {
		return err
	}
	wide := isUTF16(b[:n])
	if binary(b[:n]) && !wide {
		return nil
	}
	if !end {
		m, err := io.ReadFull(r, b[n:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		n += m
	}
	if wide {
		s.text(fromUTF16(b[:n]), at)
		return nil
	}
	s.text(b[:n], at)
	return nil
}

// isUTF16 tells a text in UTF-16 by its byte order mark: what PowerShell writes with `>`, for one.
func isUTF16(b []byte) bool {
	return len(b) > 3 && (b[0] == 0xff && b[1] == 0xfe && (b[2] != 0 || b[3] != 0) || b[0] == 0xfe && b[1] == 0xff)
}

// fromUTF16 is a text with a byte order mark in UTF-8.
func fromUTF16(b []byte) []byte {
	low, high := 0, 1
	if b[0] == 0xfe {
		low, high = 1, 0
	}
	units := make([]uint16, 0, len(b)/2)
	for i := 2; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i+low])|uint16(b[i+high])<<8)
	}
	return []byte(string(utf16.Decode(units)))
}

// text searches a text.
func (s *search) text(text []byte, at place) {
	for _, f := range s.patterns.find(s.ctx, text, at.path) {
		line := f.StartLine + 1
		if at.apart {
			line = 0
		}
		s.add(secret{number: at.number, value: strings.Clone(f.Secret), Finding: Finding{
			Kind: "secret", ID: f.RuleID, Severity: "high", Path: oneLine(at.path, 500), Line: line, Layer: at.layer, Title: mask(f.RuleID, f.Secret),
		}})
	}
}

func (s *search) add(f secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.found) >= maxSecrets {
		s.full = true
		return
	}
	s.found = append(s.found, f)
}

// findings are what was found, each secret of a file once although it is in several layers: where it came
// first.
func (s *search) findings() ([]secret, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.found, func(a, b secret) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.number, b.number), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID))
	})
	type key struct{ id, path, value string }
	seen := map[key]bool{}
	var out []secret
	for _, f := range s.found {
		k := key{f.ID, f.Path, f.value}
		if !seen[k] {
			seen[k] = true
			out = append(out, f)
		}
	}
	if s.full {
		return out, []string{fmt.Sprintf("there are more than %d secrets; the others are not listed", maxSecrets)}
	}
	return out, nil
}

// mask says what kind of secret it is and how it begins, which is enough to know it again and too little to
// use it.
func mask(rule, value string) string {
	what := strings.ReplaceAll(rule, "-", " ")
	if strings.HasPrefix(value, "-----BEGIN") || len(value) < 16 || strings.ContainsAny(value, "\n ") {
		return what
	}
	return fmt.Sprintf("%s %s****", what, oneLine(value[:4], 8))
}
