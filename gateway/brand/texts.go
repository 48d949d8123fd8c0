package brand

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	maxTexts = 128 << 10 // of one language
	maxText  = 600       // characters of one text
)

var (
	placeholder = regexp.MustCompile(`\{[^{}]*\}|%[a-z]`)
	address     = regexp.MustCompile(`(?i)(?:\S*://|\bwww\.|\bmailto:)[^\s,;]*`)
	entity      = regexp.MustCompile(`&[#a-zA-Z0-9]+;`)
)

// loadTexts reads every LANGUAGE.yaml of the folder; other files (a README, a copy of the editor's) are none of ours.
func (b *Brand) loadTexts(dir string, known Words) (errs []error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return []error{fmt.Errorf("pickup.brand.texts: %w", err)}
	}
	for _, f := range files {
		lang, ok := strings.CutSuffix(f.Name(), ".yaml")
		if !ok || strings.HasPrefix(lang, ".") {
			continue
		}
		path := filepath.Join(dir, f.Name())
		if known[lang] == nil {
			errs = append(errs, &Fault{path, 1, 1, "", fmt.Sprintf("no such language; there are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))})
			continue
		}
		texts, faults := readTexts(path, known[lang])
		b.words[lang], errs = texts, append(errs, faults...)
	}
	return errs
}

func readTexts(path string, known map[string]string) (texts map[string]string, errs []error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, []error{err}
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxTexts+1))
	if err != nil || len(src) > maxTexts {
		return nil, []error{errors.Join(err, fmt.Errorf("%s: longer than %d KiB, or not readable", path, maxTexts>>10))}
	}
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		fault := &Fault{path, 1, 1, "", err.Error()}
		if s := new(yaml.SyntaxError); errors.As(err, &s) {
			fault.Text = "not YAML: " + s.GetMessage()
			if t := s.GetToken(); t != nil && t.Position != nil {
				fault.Line, fault.Col = t.Position.Line, t.Position.Column
			}
		}
		return nil, []error{fault}
	}
	texts = map[string]string{}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		m, ok := doc.Body.(*ast.MappingNode)
		if !ok {
			return nil, []error{&Fault{path, 1, 1, "", "want lines of the form key: \"text\""}}
		}
		for _, v := range m.Values {
			at := v.Key.GetToken().Position
			key := v.Key.GetToken().Value
			fault := func(format string, args ...any) {
				errs = append(errs, &Fault{path, at.Line, at.Column, key, fmt.Sprintf(format, args...)})
			}
			standard, there := known[key]
			if _, twice := texts[key]; twice {
				fault("stands twice")
				continue
			}
			if !there {
				fault("no such text (passerelle preview --texts lists them)")
				continue
			}
			text, ok := scalar(v.Value)
			if !ok {
				fault("want a text: in quotes where it has a colon, a number or a brace")
				continue
			}
			if why := unfit(text, standard); why != "" {
				fault("%s", why)
			}
			texts[key] = text
		}
	}
	return texts, errs
}

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return strings.TrimSpace(n.Value), true
	case *ast.LiteralNode:
		return strings.Join(strings.Fields(n.Value.Value), " "), true
	}
	return "", false
}

// strangeAddress tells whether a text names an address that ours does not: a defender of rights is ours, a clinic's own site is not.
func strangeAddress(text, standard string) bool {
	for _, a := range address.FindAllString(text, -1) {
		if !slices.Contains(address.FindAllString(standard, -1), a) {
			return true
		}
	}
	return false
}

// unfit says why a text may not stand in the place of ours, "" where it may.
func unfit(text, standard string) string {
	switch {
	case text == "":
		return "is empty"
	case utf8.RuneCountInString(text) > maxText:
		return fmt.Sprintf("has %d characters: at most %d", utf8.RuneCountInString(text), maxText)
	case strings.ContainsAny(text, "<>") || entity.MatchString(text):
		return "has HTML: texts are plain"
	case strangeAddress(text, standard):
		return "has an address: a page or notice leads nowhere but to the message"
	case strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r)
	}):
		return "has control characters, or is no UTF-8"
	}
	want, got := placeholder.FindAllString(standard, -1), placeholder.FindAllString(text, -1)
	for _, p := range want {
		if !slices.Contains(got, p) {
			return "lacks " + p
		}
	}
	for _, p := range got {
		if !slices.Contains(want, p) {
			return "has " + p + ", which is not known here" + yes(len(want) > 0, ": "+strings.Join(want, ", "))
		}
	}
	return ""
}

func yes(b bool, s string) string {
	if b {
		return s
	}
	return ""
}
