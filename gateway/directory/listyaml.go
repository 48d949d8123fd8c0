package directory

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// parseYAML reads a sequence of entries, at the top of the file or under the key "contacts". The tree is walked by hand: every
// fault is told with its line, not only the first.
func parseYAML(file string, text []byte) (cs []*Contact, faults []Fault) {
	if !utf8.Valid(text) {
		return nil, []Fault{{File: file, Line: 0, Text: "the list is not UTF-8"}}
	}
	tree, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line := 0
		if ye := yaml.Error(nil); errors.As(err, &ye) {
			if t := ye.GetToken(); t != nil {
				line = t.Position.Line
			}
			err = errors.New(ye.GetMessage())
		}
		return nil, []Fault{{File: file, Line: line, Text: err.Error()}}
	}
	at := func(n ast.Node, format string, args ...any) {
		line := 0
		if n != nil && n.GetToken() != nil {
			line = n.GetToken().Position.Line
		}
		faults = append(faults, Fault{File: file, Line: line, Text: fmt.Sprintf(format, args...)})
	}
	seq, err := contactsOf(tree)
	if err != nil {
		return nil, []Fault{{File: file, Line: 1, Text: err.Error()}}
	}
	if seq == nil {
		return nil, nil
	}
	for _, v := range seq.Values {
		pairs, ok := pairsOf(v)
		if !ok {
			at(v, "an entry must be a mapping (address: ..., name: ...)")
			continue
		}
		c := &Contact{File: file}
		good := true
		seen := make(map[string]bool)
		for _, p := range pairs {
			if c.Line == 0 {
				c.Line = p.Key.GetToken().Position.Line
			}
			field, err := fieldKey(p.Key.String())
			if err == nil && seen[field] {
				err = fmt.Errorf("%s stands twice in the entry", field)
			}
			seen[field] = true
			var value string
			if err == nil {
				value, err = scalar(p.Value)
			}
			if err == nil {
				err = c.set(field, value)
			}
			if err != nil {
				at(p.Key, "%v", err)
				good = false
			}
		}
		if !good {
			continue
		}
		if err := c.whole(); err != nil {
			at(v, "%v", err)
			continue
		}
		if cs = append(cs, c); len(cs) > maxContacts {
			return nil, []Fault{{File: file, Line: c.Line, Text: fmt.Sprintf("the list has more than %d entries", maxContacts)}}
		}
	}
	return cs, faults
}

func contactsOf(tree *ast.File) (*ast.SequenceNode, error) {
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, errors.New("the list holds more than one YAML document")
		}
		body = doc.Body
	}
	if body == nil {
		return nil, nil
	}
	if pairs, ok := pairsOf(body); ok {
		if len(pairs) != 1 || pairs[0].Key.String() != "contacts" {
			return nil, errors.New(`the list must be a sequence of entries, or one under the key "contacts"`)
		}
		if body = pairs[0].Value; body == nil || body.Type() == ast.NullType {
			return nil, nil
		}
	}
	seq, ok := body.(*ast.SequenceNode)
	if !ok {
		return nil, errors.New("the list must be a sequence of entries")
	}
	return seq, nil
}

func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// scalar gives a value as it is written: a phone without quotes is a number to YAML, and its leading zero must stay.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "", nil
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	}
	return "", errors.New("the value must be plain text")
}
