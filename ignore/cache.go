package ignore

import "sync"

const (
	maxKept    = 4096   // matchers of a Cache
	maxFolders = 10_000 // that a matcher remembers from one use to the next
)

// Cache keeps matchers: patterns take far longer to compile than to ask. Its zero value is ready, nil keeps
// nothing, and it is safe for concurrent use.
type Cache struct {
	mu   sync.Mutex
	idle map[string]*Matcher
}

// Take is the matcher of patterns, whose text tells them from others. Nobody else has it until it is given back.
func (c *Cache) Take(text string, patterns []string) (*Matcher, error) {
	if c != nil {
		c.mu.Lock()
		m := c.idle[text]
		delete(c.idle, text)
		c.mu.Unlock()
		if m != nil {
			return m, nil
		}
	}
	return New(patterns)
}

// Give gives matchers back, by the text of their patterns. They must not be used any more.
func (c *Cache) Give(matchers map[string]*Matcher) {
	if c == nil || len(matchers) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == nil || len(c.idle)+len(matchers) > maxKept {
		c.idle = make(map[string]*Matcher, len(matchers))
	}
	for text, m := range matchers {
		if m == nil || len(c.idle) >= maxKept {
			continue
		}
		if len(m.folders) > maxFolders {
			clear(m.folders)
		}
		c.idle[text] = m
	}
}
