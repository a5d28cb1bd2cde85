package gate

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"github.com/slipway-cd/slipway"
)

// typeTable is what rules know of the evidence: its types with their JSON names, made by reflection from
// slipway.Evidence. It provides types to the checker and adapts values for the interpreter. It is never
// changed after it was made.
type typeTable struct {
	types.Provider // of what CEL itself has
	byName         map[string]*structType
	byGo           map[reflect.Type]*structType
}

type structType struct {
	cel    *types.Type
	fields map[string]*types.FieldType
	names  []string
	words  map[string][]string // what a field may hold, where that is one of some words
}

// absentError says that a rule read what the step did not make.
type absentError struct{ field string } // as a rule reads it: evidence.tests.coverage

func (e absentError) Error() string { return "there is no " + e.field }

func newTypeTable() (*typeTable, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	t := &typeTable{Provider: registry, byName: map[string]*structType{}, byGo: map[reflect.Type]*structType{}}
	if _, err := t.add(reflect.TypeFor[slipway.Evidence]()); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *typeTable) add(g reflect.Type) (*types.Type, error) {
	if s, ok := t.byGo[g]; ok {
		return s.cel, nil
	}
	if t.byName[g.Name()] != nil {
		return nil, fmt.Errorf("two types of evidence are named %s", g.Name())
	}
	s := &structType{cel: types.NewObjectType(g.Name()), fields: map[string]*types.FieldType{}, words: map[string][]string{}}
	t.byGo[g], t.byName[g.Name()] = s, s
	for i := range g.NumField() {
		f := g.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() || neverSeen(g, f) {
			continue
		}
		cel, err := t.typeOf(f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", g.Name(), name, err)
		}
		s.names = append(s.names, name)
		s.fields[name] = field(cel, i, t.path(g, name), mayBeAbsent(g, f))
		if known := wordsOf(f.Type); known != nil {
			s.words[name] = known
		}
	}
	return s.cel, nil
}

// mayBeAbsent are the parts of the evidence that a step did not make when they are nil: to read one is an
// error, as an empty one would let a rule pass that looked at nothing.
func mayBeAbsent(g reflect.Type, f reflect.StructField) bool {
	if f.Type.Kind() == reflect.Pointer {
		return true
	}
	return g == reflect.TypeFor[slipway.Evidence]() && f.Name == "Manifests"
}

// neverSeen are the parts of the evidence that no step has to which a rule may belong: signatures are looked at when
// the rules have spoken.
func neverSeen(g reflect.Type, f reflect.StructField) bool {
	return g == reflect.TypeFor[slipway.Evidence]() && f.Name == "Signatures"
}

// path is how a rule reads a field: from evidence on where one way leads to its type, else as that of the type.
func (t *typeTable) path(g reflect.Type, name string) string {
	if at, ok := where(reflect.TypeFor[slipway.Evidence](), g, variable); ok {
		return at + "." + name
	}
	return g.Name() + "." + name
}

// where leads from a struct to another through fields that are structs, by their JSON names.
func where(from, to reflect.Type, path string) (string, bool) {
	if from == to {
		return path, true
	}
	for i := range from.NumField() {
		f := from.Field(i)
		next := f.Type
		if next.Kind() == reflect.Pointer {
			next = next.Elem()
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if next.Kind() != reflect.Struct || next == reflect.TypeFor[time.Time]() || name == "" || neverSeen(from, f) {
			continue
		}
		if at, ok := where(next, to, path+"."+name); ok {
			return at, true
		}
	}
	return "", false
}

// readAs is how rules read the one field of this name that is in no list; "" where there is none or are several.
func (t *typeTable) readAs(name string) (path string) {
	for g, s := range t.byGo {
		at, ok := where(reflect.TypeFor[slipway.Evidence](), g, variable)
		if !ok || s.fields[name] == nil {
			continue
		}
		if path != "" {
			return ""
		}
		path = at + "." + name
	}
	return path
}

func field(cel *types.Type, i int, name string, absent bool) *types.FieldType {
	return &types.FieldType{
		Type: cel,
		IsSet: func(target any) bool {
			o, ours := target.(object)
			return ours && !o.value.Field(i).IsZero()
		},
		GetFrom: func(target any) (any, error) {
			o, ours := target.(object)
			if !ours {
				return nil, fmt.Errorf("%T has no field %s", target, name)
			}
			v := o.value.Field(i)
			if absent && v.IsNil() {
				return nil, absentError{name}
			}
			return o.adapter.NativeToValue(v.Interface()), nil
		},
	}
}

func (t *typeTable) typeOf(g reflect.Type) (*types.Type, error) {
	switch g {
	case reflect.TypeFor[time.Time]():
		return types.TimestampType, nil
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[slipway.Duration]():
		return types.DurationType, nil
	}
	switch g.Kind() {
	case reflect.String:
		return types.StringType, nil
	case reflect.Bool:
		return types.BoolType, nil
	case reflect.Int, reflect.Int64:
		return types.IntType, nil
	case reflect.Float64:
		return types.DoubleType, nil
	case reflect.Pointer:
		return t.typeOf(g.Elem())
	case reflect.Struct:
		return t.add(g)
	case reflect.Slice:
		elem, err := t.typeOf(g.Elem())
		return types.NewListType(elem), err
	case reflect.Map:
		elem, err := t.typeOf(g.Elem())
		return types.NewMapType(types.StringType, elem), err
	}
	return nil, fmt.Errorf("rules know no values of the Go type %s", g)
}

// FindStructType returns a type of the evidence, or one of CEL's own.
func (t *typeTable) FindStructType(name string) (*types.Type, bool) {
	if s, ok := t.byName[name]; ok {
		return types.NewTypeTypeWithParam(s.cel), true
	}
	return t.Provider.FindStructType(name)
}

// FindStructFieldNames returns the names of a type's fields, in the order of its declaration.
func (t *typeTable) FindStructFieldNames(name string) ([]string, bool) {
	if s, ok := t.byName[name]; ok {
		return s.names, true
	}
	return t.Provider.FindStructFieldNames(name)
}

// FindStructFieldType returns a field and how it is read.
func (t *typeTable) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if s, ok := t.byName[name]; ok {
		f, ok := s.fields[field]
		return f, ok
	}
	return t.Provider.FindStructFieldType(name, field)
}

// NativeToValue makes a value for the interpreter.
func (t *typeTable) NativeToValue(value any) ref.Val { return adapter{table: t}.NativeToValue(value) }

// adapter makes values of one evaluation, and counts them. CEL can count what an evaluation costs too, in a time
// that grows with the square of a list's length: 10,000 findings took it 130 ms.
type adapter struct {
	table *typeTable
	left  *int64 // what the evaluation may still cost; nil: anything
}

// spend ends the evaluation when it has cost too much, in the way in which CEL ends it.
func (a adapter) spend(units int) {
	if a.left == nil {
		return
	}
	if *a.left -= int64(units); *a.left < 0 {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "the rule costs too much"})
	}
}

// NativeToValue makes a value for the interpreter. What is not of the evidence is left to CEL.
func (a adapter) NativeToValue(value any) ref.Val {
	a.spend(1)
	switch v := value.(type) {
	case ref.Val:
		return v
	case time.Time:
		return types.Timestamp{Time: v}
	case time.Duration:
		return types.Duration{Duration: v}
	case slipway.Duration:
		return types.Duration{Duration: time.Duration(v)}
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.String:
		a.spend(v.Len() / 10)
		return types.String(v.String())
	case reflect.Pointer:
		if s, ours := a.table.byGo[v.Type().Elem()]; ours && !v.IsNil() {
			return object{value: v.Elem(), typ: s, adapter: a}
		}
	case reflect.Struct:
		if s, ours := a.table.byGo[v.Type()]; ours {
			return object{value: v, typ: s, adapter: a}
		}
	case reflect.Slice:
		if a.table.ours(v.Type().Elem()) {
			return types.NewDynamicList(a, value)
		}
	case reflect.Map:
		if a.table.ours(v.Type().Elem()) {
			return types.NewDynamicMap(a, value)
		}
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

// ours reports whether what a list or map holds is a part of the evidence.
func (t *typeTable) ours(g reflect.Type) bool {
	_, ok := t.byGo[g]
	return ok || g.Kind() == reflect.String
}

// object is a struct of the evidence.
type object struct {
	value   reflect.Value
	typ     *structType
	adapter adapter
}

// ConvertToNative is not needed: what rules return is true or false.
func (o object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s does not become a %s", o.typ.cel, t)
}

// ConvertToType gives the object as itself, or its type.
func (o object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.TypeType:
		return o.typ.cel
	case ref.Type(o.typ.cel):
		return o
	}
	return types.NewErr("%s does not become a %s", o.typ.cel, t.TypeName())
}

// Equal compares all that two objects hold.
func (o object) Equal(other ref.Val) ref.Val {
	o.adapter.spend(o.value.NumField())
	p, ok := other.(object)
	return types.Bool(ok && o.typ == p.typ && reflect.DeepEqual(o.value.Interface(), p.value.Interface()))
}

// Type is that of the object.
func (o object) Type() ref.Type { return o.typ.cel }

// Value is the object, as the fields of its type read it.
func (o object) Value() any { return o }

// Get reads a field by name, where the type of the object was not known when the rule was checked.
func (o object) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	f, known := o.typ.fields[string(name)]
	if !ok || !known {
		return types.NewErr("%s has no field %v", o.typ.cel, index)
	}
	v, err := f.GetFrom(o)
	if err != nil {
		return types.WrapErr(err)
	}
	return o.adapter.NativeToValue(v)
}

// IsSet reports whether a field holds something.
func (o object) IsSet(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	f, known := o.typ.fields[string(name)]
	if !ok || !known {
		return types.NewErr("%s has no field %v", o.typ.cel, index)
	}
	return types.Bool(f.IsSet(o))
}
