package trust

import (
	"errors"
	"slices"
	"strings"
)

// canonical writes Exclusive XML Canonicalization 1.0 without comments (https://www.w3.org/TR/xml-exc-c14n/) of a document without
// prefixes: a default namespace is written where it differs from the one written above.
type canonical struct {
	out    []byte
	spaces []string // of the open elements, as written
	max    int
}

var errCanonical = errors.New("its canonical form is too large")

func (c *canonical) start(e xmlElement, attrs []xmlAttr) error {
	if len(c.out) > c.max {
		return errCanonical
	}
	c.out = append(append(c.out, '<'), e.name...)
	if len(c.spaces) == 0 || c.spaces[len(c.spaces)-1] != e.space {
		c.attr(xmlAttr{"xmlns", e.space})
	}
	c.spaces = append(c.spaces, e.space)
	if len(attrs) > 1 { // without namespaces their order is that of their names
		attrs = slices.SortedFunc(slices.Values(attrs), func(a, b xmlAttr) int { return strings.Compare(a.name, b.name) })
	}
	for _, a := range attrs {
		c.attr(a)
	}
	c.out = append(c.out, '>')
	return nil
}

func (c *canonical) attr(a xmlAttr) {
	c.out = append(append(append(c.out, ' '), a.name...), `="`...)
	for i := range len(a.value) {
		switch b := a.value[i]; b {
		case '&':
			c.out = append(c.out, "&amp;"...)
		case '<':
			c.out = append(c.out, "&lt;"...)
		case '"':
			c.out = append(c.out, "&quot;"...)
		case '\t':
			c.out = append(c.out, "&#x9;"...)
		case '\n':
			c.out = append(c.out, "&#xA;"...)
		case '\r':
			c.out = append(c.out, "&#xD;"...)
		default:
			c.out = append(c.out, b)
		}
	}
	c.out = append(c.out, '"')
}

func (c *canonical) end(e xmlElement) {
	c.spaces = c.spaces[:len(c.spaces)-1]
	c.out = append(append(append(c.out, "</"...), e.name...), '>')
}

func (c *canonical) text(b []byte) error {
	if len(c.out) > c.max {
		return errCanonical
	}
	from := 0
	for i, ch := range b {
		var esc string
		switch ch {
		case '&':
			esc = "&amp;"
		case '<':
			esc = "&lt;"
		case '>':
			esc = "&gt;"
		case '\r':
			esc = "&#xD;"
		default:
			continue
		}
		c.out = append(append(c.out, b[from:i]...), esc...)
		from = i + 1
	}
	c.out = append(c.out, b[from:]...)
	return nil
}

// xmlNode is a small part of a document kept as a tree: an element, or a text where name is "".
type xmlNode struct {
	xmlElement
	attrs []xmlAttr
	kids  []*xmlNode
	chars string
}

// canon writes the element as the apex of a canonical document.
func (n *xmlNode) canon(c *canonical) error {
	if n.name == "" {
		return c.text([]byte(n.chars))
	}
	if err := c.start(n.xmlElement, n.attrs); err != nil {
		return err
	}
	for _, k := range n.kids {
		if err := k.canon(c); err != nil {
			return err
		}
	}
	c.end(n.xmlElement)
	return nil
}

// elements gives the elements inside, if they have these names in this order, nothing but white space stands between them, and n itself
// has no attributes.
func (n *xmlNode) elements(names ...string) ([]*xmlNode, error) {
	if len(n.attrs) > 0 {
		return nil, errors.New(n.name + " has attributes")
	}
	return n.within(names...)
}

func (n *xmlNode) within(names ...string) ([]*xmlNode, error) {
	var out []*xmlNode
	for _, k := range n.kids {
		switch {
		case k.name != "":
			out = append(out, k)
		case strings.Trim(k.chars, xmlSpace) != "":
			return nil, errors.New("text in " + n.name)
		}
	}
	if !slices.EqualFunc(out, names, func(k *xmlNode, name string) bool { return k.name == name }) {
		return nil, errors.New(n.name + " does not hold " + strings.Join(names, ", ") + " and nothing else")
	}
	return out, nil
}

// leaf gives the text of an element that holds nothing else and has no attributes.
func (n *xmlNode) leaf() (string, error) {
	var b strings.Builder
	for _, k := range n.kids {
		if k.name != "" {
			return "", errors.New(n.name + " holds more than text")
		}
		b.WriteString(k.chars)
	}
	if len(n.attrs) > 0 {
		return "", errors.New(n.name + " has attributes")
	}
	return b.String(), nil
}

// sole gives the value of an element's one attribute.
func (n *xmlNode) sole(attr string) (string, error) {
	if len(n.attrs) != 1 || n.attrs[0].name != attr {
		return "", errors.New(n.name + " has not the attribute " + attr + " alone")
	}
	return n.attrs[0].value, nil
}
