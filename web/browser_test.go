package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// tab is a page in a headless Chromium, signed in as bob.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string
	*site
	server *httptest.Server
	away   *atomic.Bool // the server answers nobody
}

// patience is how long a browser on a busy machine may take for anything.
const patience = 3 * time.Minute

// browse needs Chromium: SLIPWAY_E2E=1.
func browse(t *testing.T) *tab {
	t.Helper()
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("needs Chromium: set SLIPWAY_E2E=1")
	}
	w := newWorld(time.Now())
	h, err := web.New(w.options())
	if err != nil {
		t.Fatal(err)
	}
	away := &atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	temp, err := os.MkdirTemp("", "chromium") // it leaves folders there, and has a socket in one: a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.UserDataDir(t.TempDir()), chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience), chromedp.Env("TMPDIR="+temp),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browseFor())
	t.Cleanup(cancel)
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	page, closePage := chromedp.NewContext(allocator)
	t.Cleanup(closePage)
	b := &tab{t, page, srv.URL, &site{w, h}, srv, away}
	b.do(chromedp.Navigate(srv.URL + "/signin/one-time"))
	if _, err := chromedp.RunResponse(page, chromedp.Click(chromedp.CSS(".signin button"))); err != nil {
		t.Fatal(err)
	}
	return b
}

// browseFor is how long a test may browse: longer where every page is looked at in every way.
func browseFor() time.Duration {
	if os.Getenv("SLIPWAY_AXE") != "" {
		return 20 * time.Minute
	}
	return 2 * patience
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + path))
}

// wait waits until an expression holds on the page.
func (b *tab) wait(expression string) {
	b.t.Helper()
	poll := chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience))
	err := chromedp.Do(b.ctx, poll)
	if err != nil && !errors.Is(err, chromedp.ErrPollingTimeout) { // the page was still on its way
		err = chromedp.Do(b.ctx, poll)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// until waits until an expression holds on a page that runs no script of its own.
func (b *tab) until(expression string) {
	b.t.Helper()
	for held := false; !held; {
		held = value[bool](b, expression)
	}
}

// resize makes the window that wide, and waits until it is.
func (b *tab) resize(width int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, 900))
	if value[int64](b, "window.innerWidth") != width {
		b.wait(fmt.Sprintf("window.innerWidth === %d", width))
	}
}

// slash presses that key, which types unless the page has a use for it.
func (b *tab) slash() {
	b.t.Helper()
	press := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Code: "Slash", Text: "/"}
	if _, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, press); err != nil {
		b.t.Fatal(err)
	}
}

func value[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// An event changes the page without loading it again, and leaves alone what a person is at.
func TestBrowserLive(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/12")
	b.do(chromedp.SendKeys(chromedp.CSS("#approval input[name=reason]"), "the quote is"), chromedp.Click(chromedp.CSS(".changes summary")))
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; document.querySelector('#approval input[name=reason]').focus(); undefined"))
	if value[bool](b, "document.querySelector('.changes').open") {
		t.Fatal("the changes are not folded")
	}
	b.change(12, func() {
		d := b.detail(12)
		d.Approvals[0].Notes = append(d.Approvals[0].Notes, "a new note")
		d.Steps = append(d.Steps, slipway.Step{Spec: slipway.PlanStep{Key: "verify/more@production", Kind: slipway.KindVerify, Service: "more", Environment: "production"}, State: slipway.StepReady})
	})
	b.wait("document.body.innerText.includes('a new note')")
	if !value[bool](b, "window.loadedOnce === true") {
		t.Error("the page was loaded again")
	}
	if got := value[string](b, "document.activeElement.name + '=' + document.activeElement.value"); got != "reason=the quote is" {
		t.Errorf("a person types in %s", got)
	}
	if value[bool](b, "document.querySelector('.changes').open") {
		t.Error("what was folded is open")
	}
	b.do(chromedp.SendKeys(chromedp.CSS("#approval input[name=reason]"), " right"))
	b.change(12, func() { b.detail(12).Run.State = slipway.RunRunning })
	b.wait("document.title.startsWith('● Run 12 running')")
	b.wait("document.getElementById('news').textContent.includes('Run 12 running')")
	if got := value[string](b, "document.querySelector('#approval input[name=reason]').value"); got != "the quote is right" {
		t.Errorf("typed was %q", got)
	}
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS("#approval button.good"))); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := []string{"bob votes true on 12: the quote is right"}; !slices.Equal(b.asked, want) {
		t.Errorf("the button did %v", b.asked)
	}
}

// The log grows, its view moves on only when it is at the end, and its groups fold when they are done.
func TestBrowserLog(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/14")
	atEnd := "(log => log.scrollHeight - log.scrollTop - log.clientHeight < 40)(document.getElementById('log'))"
	b.wait("document.getElementById('log').dataset.streamOpen !== undefined")
	more := func(n int) {
		for range n {
			b.write(slipway.LogLine{Time: time.Now(), Group: "tests of web", Stream: "stdout", Text: "more " + script})
		}
	}
	more(60)
	b.wait("document.querySelectorAll('#log .line').length === 85")
	b.wait(atEnd)
	b.do(chromedp.Evaluate[chromedp.Void]("document.getElementById('log').scrollTop = 0; undefined"))
	more(5)
	b.wait("document.querySelectorAll('#log .line').length === 90")
	if value[float64](b, "document.getElementById('log').scrollTop") != 0 {
		t.Error("the view moved although a person looks at the beginning")
	}
	if value[bool](b, "document.querySelector('#log script') !== null") {
		t.Error("a line of the log acts")
	}
	b.do(chromedp.Evaluate[chromedp.Void]("document.getElementById('log').scrollTop = 1e9; undefined"))
	b.write(slipway.LogLine{Time: time.Now(), Group: "tests of web", State: "done", Text: "31.2s"}, slipway.LogLine{Time: time.Now(), Text: "46 passed"})
	b.wait("document.querySelector('#log details:last-of-type').open === false")
	b.wait("document.getElementById('log').innerText.includes('46 passed')")
	// The step ends, and the page goes on to the next one that works.
	b.change(14, func() {
		d := b.detail(14)
		d.Steps[2].State, d.Steps[4].State = slipway.StepSucceeded, slipway.StepRunning
		d.Steps[4].Attempt = 1
		b.logs[key(14, "publish/web")] = []slipway.LogLine{{Time: time.Now(), Text: "image published"}}
	})
	b.wait("document.getElementById('log').dataset.key === 'publish/web'")
	b.wait("document.getElementById('log').innerText.includes('image published')")
	b.change(14, func() {
		b.logs[key(14, "publish/web")] = append(b.logs[key(14, "publish/web")], slipway.LogLine{Time: time.Now(), Text: "chart published"})
	})
	b.wait("document.getElementById('log').innerText.includes('chart published')")
}

// Without JavaScript everything is there, and the buttons work.
func TestBrowserWithoutScript(t *testing.T) {
	t.Parallel()
	b := browse(t)
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.open("/runs/14")
	b.do(chromedp.WaitVisible(chromedp.CSS("#log .line:last-child")))
	b.open("/runs/12")
	b.do(chromedp.SendKeys(chromedp.CSS("#approval input[name=reason]"), "no"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS("#approval button.bad"))); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := []string{"bob votes false on 12: no"}; !slices.Equal(b.asked, want) {
		t.Errorf("the button did %v", b.asked)
	}
}

// No page is wider than its window, and nothing on it is refused by the security policy.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	b := browse(t)
	for target := range pages() {
		b.open(target)
		if value[bool](b, "[...document.styleSheets].length !== 1 || getComputedStyle(document.body).marginTop !== '0px'") {
			t.Errorf("%s has no style", target)
		}
		for _, width := range []int64{1280, 1024, 961, 800, 761, 390, 320} { // zoomed by 200 %, a window of 1,600 is one of 800
			b.resize(width)
			if wide := value[int64](b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("%s is %d pixels wide in a window of %d", target, wide, width)
			}
		}
	}
}

// With the keyboard alone: the skip link comes first, "/" goes to the search, each step of the graph
// can be reached, and what has the focus is seen.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/12")
	b.do(chromedp.KeyEvent(kb.Tab))
	if got := value[string](b, "document.activeElement.className"); got != "skip" {
		t.Errorf("the first stop is %q", got)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait("document.activeElement.id === 'main'")
	var stops []string
	for range 40 {
		b.do(chromedp.KeyEvent(kb.Tab))
		stops = append(stops, value[string](b, "(e => e.name || e.textContent.trim().slice(0, 20) || e.className.baseVal)(document.activeElement)"))
		seen := value[bool](b, "(e => { const s = getComputedStyle(e); return s.outlineStyle !== 'none' || e.closest('svg') !== null; })(document.activeElement)")
		if !seen {
			t.Errorf("the focus on %s is not seen", stops[len(stops)-1])
		}
	}
	reason, graph := slices.Index(stops, "reason"), slices.IndexFunc(stops, func(s string) bool { return strings.Contains(s, "plan") })
	if reason < 0 || graph < reason {
		t.Errorf("the approval comes before the steps: %v", stops)
	}
	b.open("/projects/shop")
	b.slash()
	if got := value[string](b, "document.activeElement.id + '=' + document.activeElement.value"); got != "find=" {
		t.Errorf("/ goes to %s", got)
	}
	b.do(chromedp.KeyEvent("a/b"))
	if got := value[string](b, "document.activeElement.value"); got != "a/b" {
		t.Errorf("typed in the search was %s", got)
	}
}

// The page comes back by itself after the connection was lost.
func TestBrowserReconnects(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/projects/shop")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; undefined"))
	for n := range 2 {
		if n == 1 {
			b.do(chromedp.Evaluate[chromedp.Void]("for (const hidden of [true, false]) { Object.defineProperty(document, 'hidden', { configurable: true, value: hidden }); document.dispatchEvent(new Event('visibilitychange')); } undefined"))
		}
		b.change(14, func() { b.boards["shop"].Rows[2].Cells[0].Current.Version = fmt.Sprint("main-new", n) })
		b.wait(fmt.Sprintf("document.body.innerText.includes('main-new%d')", n))
	}
	if !value[bool](b, "window.loadedOnce === true && document.getElementById('connection').hidden") {
		t.Error("the page was loaded again, or says that it is out of date")
	}
}

// When the session ends, a person is told; what they typed stays, also over signing in again.
func TestBrowserSessionEnds(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/12")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; undefined"), chromedp.SendKeys(chromedp.CSS("#approval input[name=reason]"), "the quote is right"))
	b.ended.Store(true)
	b.change(12, func() {})
	b.wait("!document.getElementById('signedout').hidden && document.getElementById('connection').hidden")
	if got := value[string](b, "window.loadedOnce + document.querySelector('#approval input[name=reason]').value + document.querySelector('#signedout a').getAttribute('href')"); got != "truethe quote is right/signin?to=%2Fruns%2F12" {
		t.Errorf("it is %s", got)
	}
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS("#approval button.good"))); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SendKeys(chromedp.CSS(".signin input[name=token]"), "slw_x"))
	b.ended.Store(false)
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(".signin button"))); err != nil {
		t.Fatal(err)
	}
	b.wait("document.activeElement.closest('#approval #refused') !== null")
	if got := value[string](b, "location.pathname + ' ' + document.querySelector('#approval input[name=reason]').value"); got != "/runs/12 the quote is right" {
		t.Errorf("after signing in it is %s", got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) > 0 {
		t.Errorf("it did %v", b.asked)
	}
}

// While the server is away the page says so and keeps its place; when it is back the page goes on by itself.
func TestBrowserServerAway(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/projects/shop")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; window.shift = 0; new PerformanceObserver(l => l.getEntries().forEach(e => { window.shift += e.value; })).observe({type: 'layout-shift', buffered: true}); undefined"))
	b.away.Store(true)
	b.server.CloseClientConnections()
	b.wait("!document.getElementById('connection').hidden")
	b.away.Store(false)
	b.change(14, func() { b.boards["shop"].Rows[2].Cells[0].Current.Version = "main-back" })
	b.wait("document.getElementById('connection').hidden && document.body.innerText.includes('main-back')")
	if got := value[float64](b, "window.shift"); got > 0.01 || !value[bool](b, "window.loadedOnce === true") {
		t.Errorf("the page moved by %v, or was loaded again", got)
	}
}
