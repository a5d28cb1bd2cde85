package config

// Syntactic reports whether the file has no JSON form, so that the schema has nothing to say of it.
func Syntactic(p Problem) bool { return p.class == syntax }

// Structural reports whether the schema, too, must find fault with the file.
func Structural(p Problem) bool { return p.class == structure }

// Shape is a shape for tests that make files from it.
type Shape = shape

// Key is a key for tests that make files from it.
type Key = key

// Root is the shape of the whole file.
func Root() *Shape { return root() }

// Kinds of shapes.
const (
	KindObject  = object
	KindTable   = table
	KindList    = list
	KindText    = text
	KindInteger = integer
	KindNumber  = number
	KindBoolean = boolean
)

// Parts of a shape and of a key.
func (s *shape) Kind() kind        { return s.kind }
func (s *shape) Keys() []Key       { return s.keys }
func (s *shape) Elem() *Shape      { return s.elem }
func (s *shape) Range() (int, int) { return s.min, s.max }
func (s *shape) Enum() []string    { return s.enum }
func (s *shape) OrFalse() string   { return s.orFalse }
func (s *shape) Doc() string       { return s.doc }
func (s *shape) Expected() string  { return s.expected() }
func (s *shape) KeyExpr() string   { return s.keyMatch.expr }
func (k key) Name() string         { return k.name }
func (k key) Shape() *Shape        { return k.shape }
func (k key) Required() bool       { return k.required }
func (k key) Fallback() string     { return k.fallback }

// Expr is the regular expression of a text, "" when any text will do.
func (s *shape) Expr() string {
	if s.match == nil {
		return ""
	}
	return s.match.expr
}
