package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder walks the file's tree against the structs. The library's own strict decoding stops at the first fault; an operator wants
// them all.
type decoder struct {
	file   string
	getenv func(string) (string, bool)
	faults Faults
	at     map[string]pos // where each dotted key stands
	broken map[string]bool
}

type pos struct{ line, col int }

const maxDepth = 20

func (d *decoder) fault(key, format string, args ...any) {
	p := d.where(key)
	d.broken[key] = true
	d.faults = append(d.faults, Fault{d.file, p.line, p.col, key, fmt.Sprintf(format, args...)})
}

// where gives the position of the key, or of its nearest parent that stands in the file.
func (d *decoder) where(key string) pos {
	for key != "" {
		if p, ok := d.at[key]; ok {
			return p
		}
		key = parent(key)
	}
	return pos{1, 1}
}

func parent(key string) string {
	return key[:max(strings.LastIndexByte(key, '.'), strings.LastIndexByte(key, '['), 0)]
}

// seen tells whether the file sets the key.
func (d *decoder) seen(key string) bool { _, ok := d.at[key]; return ok }

// ok tells whether no fault was found at the key or below it, so that what follows from a fault is not told as another.
func (d *decoder) ok(key string) bool {
	for k := range d.broken {
		if k == key || strings.HasPrefix(k, key+".") || strings.HasPrefix(k, key+"[") {
			return false
		}
	}
	return true
}

func (d *decoder) mark(key string, t *token.Token) {
	if t != nil && t.Position != nil {
		d.at[key] = pos{t.Position.Line, t.Position.Column}
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// value decodes a node into v. A null and an empty string leave the default of everything but a string.
func (d *decoder) value(key string, n ast.Node, v reflect.Value, depth int) {
	n = d.plain(key, n)
	if n == nil || depth > maxDepth {
		return
	}
	if n.Type() == ast.NullType {
		return
	}
	if v.Addr().Type().Implements(textType) {
		if s, ok := d.scalar(key, n); ok && s != "" {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				d.fault(key, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(key, n, v, depth)
	case reflect.Map:
		d.mapping(key, n, v, depth)
	case reflect.Slice:
		d.list(key, n, v, depth)
	case reflect.Pointer:
		if d.empty(n) {
			return
		}
		p := reflect.New(v.Type().Elem())
		d.value(key, n, p.Elem(), depth+1)
		v.Set(p)
	default:
		d.basic(key, n, v)
	}
}

// basic decodes a scalar that is no type of its own.
func (d *decoder) basic(key string, n ast.Node, v reflect.Value) {
	s, ok := d.scalar(key, n)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		switch s {
		case "":
		case "true", "false":
			v.SetBool(s == "true")
		default:
			d.fault(key, "want true or false, got %q", s)
		}
	case reflect.Int:
		if s == "" {
			return
		}
		i, err := strconv.Atoi(s)
		if err != nil {
			d.fault(key, "want a whole number, got %q", s)
			return
		}
		v.SetInt(int64(i))
	default:
		panic("config: no decoding for " + v.Type().String()) // a field of a new type, found by the test of the example
	}
}

// plain takes anchors' and tags' wrapping away. Aliases and merge keys are refused: a file in which a value stands elsewhere than it
// acts cannot be checked by reading it.
func (d *decoder) plain(key string, n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		d.fault(key, "anchors and aliases are not used in this file: write the value out")
		return nil
	case *ast.TagNode:
		d.fault(key, "tags (!) are not used in this file: quote a value that begins with !")
		return nil
	case *ast.MappingKeyNode:
		return d.plain(key, n.Value)
	}
	return n
}

// scalar gives a scalar's text with variables put in. A number keeps the digits it was written with: 0612345678 is a telephone number.
func (d *decoder) scalar(key string, n ast.Node) (string, bool) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(n.GetToken().Value), true
	default:
		d.fault(key, "want a single value, got %s", shape(n))
		return "", false
	}
	s, err := expand(s, d.getenv)
	if err != nil {
		d.fault(key, "%v", err)
		return "", false
	}
	return s, true
}

func shape(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	}
	return "a single value"
}

// pairs gives a mapping's entries; each key is marked with its place and told once where it stands twice.
func (d *decoder) pairs(key string, n ast.Node) (names []string, values []ast.Node, ok bool) {
	var nodes []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		nodes = n.Values
	case *ast.MappingValueNode:
		nodes = []*ast.MappingValueNode{n}
	default:
		if d.empty(n) {
			return nil, nil, true
		}
		d.fault(key, "want a mapping (key: value), got %s", shape(n))
		return nil, nil, false
	}
	for _, p := range nodes {
		k := d.plain(key, p.Key)
		if k == nil {
			continue
		}
		name := k.GetToken().Value
		full := join(key, name)
		if slices.Contains(names, name) {
			at := k.GetToken().Position
			d.faults = append(d.faults, Fault{d.file, at.Line, at.Column, full, "stands here a second time"})
			continue
		}
		d.mark(full, k.GetToken())
		names, values = append(names, name), append(values, p.Value)
	}
	return names, values, true
}

func (d *decoder) structure(key string, n ast.Node, v reflect.Value, depth int) {
	names, values, ok := d.pairs(key, n)
	if !ok {
		return
	}
	fields := fieldsOf(v.Type())
	for i, name := range names {
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		full := join(key, name)
		if at < 0 {
			known := make([]string, len(fields))
			for i, f := range fields {
				known[i] = f.name
			}
			if near := didYouMean(name, known); near != "" {
				d.fault(full, "unknown key (did you mean %s?)", near)
			} else {
				d.fault(full, "unknown key (known here: %s)", strings.Join(known, ", "))
			}
			continue
		}
		d.value(full, values[i], v.Field(fields[at].index), depth+1)
	}
}

func (d *decoder) mapping(key string, n ast.Node, v reflect.Value, depth int) {
	names, values, ok := d.pairs(key, n)
	if !ok {
		return
	}
	m := reflect.MakeMap(v.Type())
	for i, name := range names {
		e := reflect.New(v.Type().Elem()).Elem()
		if h, ok := e.Addr().Interface().(*Hop); ok {
			*h = defaultHop()
		}
		d.value(join(key, name), values[i], e, depth+1)
		m.SetMapIndex(reflect.ValueOf(name), e)
	}
	v.Set(m)
}

// list decodes a sequence; a single value stands for a list of one, and entries that are empty after expansion are left out.
func (d *decoder) list(key string, n ast.Node, v reflect.Value, depth int) {
	out := reflect.MakeSlice(v.Type(), 0, 0)
	add := func(key string, n ast.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(key, n, e, depth+1)
		if e.Kind() != reflect.String || e.String() != "" {
			out = reflect.Append(out, e)
		}
	}
	seq, ok := n.(*ast.SequenceNode)
	switch {
	case ok:
		for i, item := range seq.Values {
			k := key + "[" + strconv.Itoa(i) + "]"
			d.mark(k, first(item))
			add(k, item)
		}
	case v.Type().Elem().Kind() == reflect.String && shape(n) == "a single value":
		add(key, n)
		if out.Len() == 0 {
			return // unset: the default stays
		}
	case d.empty(n):
		return
	default:
		d.fault(key, "want a list, got %s", shape(n))
		return
	}
	v.Set(out)
}

// empty tells whether a node is a string that expands to nothing: "not set", wherever it stands.
func (d *decoder) empty(n ast.Node) bool {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return false
	}
	text, err := expand(s.Value, d.getenv)
	return err == nil && text == ""
}

// first gives the token at which a node begins; the library's own answer for a mapping is its first colon.
func first(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return first(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

type field struct {
	name  string
	index int
}

// fieldsOf lists a struct's keys in order.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" && name != "-" {
			out = append(out, field{name, i})
		}
	}
	return out
}
