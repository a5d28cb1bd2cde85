package test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// Bounds of a report, whatever the files say.
const (
	maxFile     = 16 << 20 // bytes of one result file
	maxCases    = 100_000
	maxNesting  = 64      // suites in suites
	maxName     = 500     // bytes of a name
	maxMessage  = 4 << 10 // bytes of a message
	maxOutput   = 16 << 10
	maxOutputs  = 4 << 20 // bytes of all outputs together
	maxProblems = 50
)

// Read reads every JUnit and TRX file below dir into one report. Other files, and XML of another kind
// (coverage, for one), are passed over; a result file that cannot be read is a problem in the report.
func Read(dir string) slipway.TestReport {
	b := &reportBuilder{}
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.problem("%v", err)
		return b.report
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch strings.ToLower(path.Ext(name)) {
		case ".xml", ".trx":
			b.file(root, name)
		}
		return nil
	})
	if err != nil {
		b.problem("%v", err)
	}
	return b.report
}

func (b *reportBuilder) file(root *os.Root, name string) {
	f, err := root.Open(name)
	if err != nil {
		b.problem("%v", err)
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		b.problem("%s: %v", name, err)
		return
	}
	if len(data) > maxFile {
		b.problem("%s: is larger than %d MiB", name, maxFile>>20)
		return
	}
	suites, err := parse(data)
	switch {
	case errors.Is(err, errOther):
		return
	case err != nil:
		b.problem("%s: %v", name, err)
		return
	}
	b.report.Files = append(b.report.Files, name)
	if !b.add(suites) {
		b.problem("%s: the report has %d tests, what exceeds that is left out", name, maxCases)
	}
}

// errOther says that a file holds no test results.
var errOther = errors.New("not a result file")

// parse reads one file of either format.
func parse(data []byte) ([]slipway.TestSuite, error) {
	dec := xml.NewDecoder(bytes.NewReader(printable(data)))
	dec.Strict = false // undefined entities stay as they are written
	dec.CharsetReader = charset
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("holds no XML element")
		}
		if err != nil {
			return nil, err
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch start.Name.Local {
		case "testsuites", "testsuite":
			return parseJUnit(dec, start)
		case "TestRun":
			return parseTRX(dec, start)
		}
		return nil, errOther
	}
}

var (
	charRef = regexp.MustCompile(`&#(x[0-9a-fA-F]{1,8}|[0-9]{1,8});`)
	bom     = []byte("\xef\xbb\xbf")
)

// printable replaces what XML does not allow and test tools write nevertheless: control characters of
// terminals, as they are and as references.
func printable(data []byte) []byte {
	data = bytes.TrimPrefix(data, bom)
	out := make([]byte, 0, len(data))
	for _, c := range data {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
			c = ' '
		}
		out = append(out, c)
	}
	return charRef.ReplaceAllFunc(out, func(ref []byte) []byte {
		digits := string(ref[2 : len(ref)-1])
		n, err := strconv.ParseUint("0"+strings.Replace(digits, "x", "", 1), base(digits), 32)
		r := rune(n)
		if err != nil || n > utf8.MaxRune || !utf8.ValidRune(r) || (n < 0x20 && n != 9 && n != 10 && n != 13) || n == 0xfffe || n == 0xffff {
			return []byte(" ")
		}
		return ref
	})
}

func base(digits string) int {
	if strings.HasPrefix(digits, "x") {
		return 16
	}
	return 10
}

// charset reads the encodings that occur: UTF-8, and Latin-1 by whatever name.
func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "windows-1252", "iso-8859-15":
		data, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		runes := make([]rune, len(data))
		for i, c := range data {
			runes[i] = rune(c)
			if c >= 0x80 && c < 0xa0 {
				runes[i] = utf8.RuneError
			}
		}
		return strings.NewReader(string(runes)), nil
	}
	return nil, fmt.Errorf("encoding %q is not known", label)
}

// reportBuilder sums up suites within the bounds.
type reportBuilder struct {
	report  slipway.TestReport
	cases   int
	outputs int
}

// add takes the suites over and reports whether all had room.
func (b *reportBuilder) add(suites []slipway.TestSuite) bool {
	for _, s := range suites {
		s.Name = clip(s.Name, maxName)
		for i := range s.Cases {
			if b.cases == maxCases {
				s.Cases = s.Cases[:i]
				b.keep(s)
				return false
			}
			b.cases++
			b.count(&s.Cases[i])
		}
		b.keep(s)
	}
	return true
}

func (b *reportBuilder) keep(s slipway.TestSuite) {
	if len(s.Cases) > 0 {
		b.report.Suites = append(b.report.Suites, s)
	}
}

func (b *reportBuilder) count(c *slipway.TestCase) {
	c.Name = clip(cmp.Or(c.Name, c.Class, "(unnamed)"), maxName)
	c.Class = clip(c.Class, maxName)
	c.Message = clip(strings.TrimSpace(c.Message), maxMessage)
	c.Output = clip(strings.TrimSpace(c.Output), maxOutput)
	if b.outputs += len(c.Output); b.outputs > maxOutputs {
		c.Output = ""
	}
	b.report.Duration += c.Duration
	switch c.State {
	case slipway.TestFailed:
		b.report.Failed++
	case slipway.TestSkipped:
		b.report.Skipped++
	default:
		b.report.Passed++
	}
}

func (b *reportBuilder) problem(format string, args ...any) {
	if len(b.report.Problems) < maxProblems {
		b.report.Problems = append(b.report.Problems, clip(fmt.Sprintf(format, args...), maxMessage))
	}
}

// clip cuts at a character, and says that it did.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "..."
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// seconds reads "1.5", "1,234.5" and, as some locales write it, "1,5".
func seconds(s string) time.Duration {
	s = strings.TrimSuffix(strings.TrimSpace(s), "s")
	if strings.Contains(s, ".") {
		s = strings.ReplaceAll(s, ",", "")
	} else {
		s = strings.Replace(s, ",", ".", 1)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e7) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
