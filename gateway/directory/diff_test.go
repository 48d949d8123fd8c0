package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"passerelle/gateway/directory/extraction"
)

// extracted writes an extraction of these lines and of 100 others that are in every one, and gives its path.
func extracted(t *testing.T, rows ...extraction.Row) string {
	t.Helper()
	o := extraction.Options{Lines: 100 + len(rows), Seed: 7, Extra: rows}
	return write(t, filepath.Join(t.TempDir(), "Extraction_202611200600.txt"), o)
}

// at is a person's line with other values: column, value.
func at(r extraction.Row, change ...string) extraction.Row {
	out := extraction.Row{}
	for k, v := range r {
		out[k] = v
	}
	for i := 0; i+1 < len(change); i += 2 {
		out[change[i]] = change[i+1]
	}
	return out
}

// told compares and writes what each change was told as.
func told(t *testing.T, stateDir, old, new string, o Options) (Difference, []string) {
	t.Helper()
	o.Now = fixed
	var lines []string
	d, err := Diff(t.Context(), stateDir, old, new, o, func(c Change) error {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", c.What, c.Kind, c.Address, strings.Join(c.Fields, "; "))))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, lines
}

func TestDiff(t *testing.T) {
	const place, city = "Raison Sociale structure BAL", "L6LIGNEACHEMINEMENT"
	anne := extraction.Person("anne.roux@medecin.mssante.test", "Anne", "ROUX", extraction.RPPS(900_001))
	zoe := extraction.Person("zoe.noel@medecin.mssante.test", "Zoé", "NOËL", extraction.RPPS(900_002))
	chu := extraction.Organisation("accueil@chu.mssante.test", "CHU", extraction.FINESS(3))
	here, there := at(anne, place, "CABINET A", city, "69003 LYON"), at(anne, place, "CABINET B", city, "75001 PARIS")
	for name, c := range map[string]struct {
		old, new []extraction.Row
		want     []string
	}{
		"the same":                 {[]extraction.Row{anne, zoe, chu}, []extraction.Row{chu, zoe, anne}, nil},
		"added":                    {[]extraction.Row{zoe}, []extraction.Row{zoe, chu, anne}, []string{"added ORG accueil@chu.mssante.test", "added PER anne.roux@medecin.mssante.test"}},
		"removed":                  {[]extraction.Row{anne, zoe, chu}, []extraction.Row{chu}, []string{"removed PER anne.roux@medecin.mssante.test", "removed PER zoe.noel@medecin.mssante.test"}},
		"one for another":          {[]extraction.Row{anne}, []extraction.Row{zoe}, []string{"removed PER anne.roux@medecin.mssante.test", "added PER zoe.noel@medecin.mssante.test"}},
		"a name":                   {[]extraction.Row{anne}, []extraction.Row{at(anne, "Nom d'exercice", "PETIT")}, []string{"changed PER anne.roux@medecin.mssante.test last name: ROUX -> PETIT"}},
		"a value comes":            {[]extraction.Row{at(anne, place, "")}, []extraction.Row{at(anne, place, "CABINET A")}, []string{"changed PER anne.roux@medecin.mssante.test structure: none -> CABINET A"}},
		"a value goes, with case":  {[]extraction.Row{at(anne, place, "CABINET A", "Prénom d'exercice", "Anne")}, []extraction.Row{at(anne, place, "", "Prénom d'exercice", "ANNE")}, []string{"changed PER anne.roux@medecin.mssante.test first name: Anne -> ANNE; structure: CABINET A -> none"}},
		"dematerialisation":        {[]extraction.Row{at(anne, "Dématérialisation", "O")}, []extraction.Row{at(anne, "Dématérialisation", "")}, []string{"changed PER anne.roux@medecin.mssante.test dematerialised: yes -> none"}},
		"another person":           {[]extraction.Row{anne}, []extraction.Row{at(anne, "Identifiant PP", extraction.RPPS(900_003))}, []string{"changed PER anne.roux@medecin.mssante.test id: " + extraction.RPPS(900_001) + " -> " + extraction.RPPS(900_003)}},
		"two places, turned round": {[]extraction.Row{here, there}, []extraction.Row{there, here}, nil},
		"a place more":             {[]extraction.Row{here}, []extraction.Row{here, there}, []string{"changed PER anne.roux@medecin.mssante.test places: 1 -> 2"}},
		"a place less":             {[]extraction.Row{here, there}, []extraction.Row{there}, []string{"changed PER anne.roux@medecin.mssante.test places: 2 -> 1"}},
		"another second place":     {[]extraction.Row{here, there}, []extraction.Row{here, at(there, place, "CABINET C")}, []string{"changed PER anne.roux@medecin.mssante.test places: 2, not the same"}},
		"the first and the last":   {[]extraction.Row{at(anne, "Adresse BAL", "0@a.mssante.test")}, []extraction.Row{at(anne, "Adresse BAL", "zz@z.mssante.test")}, []string{"removed PER 0@a.mssante.test", "added PER zz@z.mssante.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			old, new := extracted(t, c.old...), extracted(t, c.new...)
			d, lines := told(t, "", old, new, Options{})
			if !slices.Equal(lines, c.want) {
				t.Errorf("got %q, want %q", lines, c.want)
			}
			count := map[string]int{}
			for _, l := range c.want {
				count[strings.Fields(l)[0]]++
			}
			if d.Added != count["added"] || d.Removed != count["removed"] || d.Changed != count["changed"] || d.Refused != "" {
				t.Errorf("%+v", d)
			}
			if d.Same+d.Changed+d.Removed != d.Old.Addresses || d.Same+d.Changed+d.Added != d.New.Addresses || d.Same < 90 {
				t.Errorf("of %d mailboxes and %d: %+v", d.Old.Addresses, d.New.Addresses, d)
			}
			if d.OldName != filepath.Base(old) || d.NewName != filepath.Base(new) || d.New.AsOf.IsZero() {
				t.Errorf("%q %q", d.OldName, d.NewName)
			}
			back, turned := told(t, "", new, old, Options{}) // the other way round it is as many
			if back.Added != d.Removed || back.Removed != d.Added || back.Changed != d.Changed || back.Same != d.Same || len(turned) != len(lines) {
				t.Errorf("turned round: %+v, %q", back, turned)
			}
		})
	}
}

// With the mirror in use: it is read and stays as it is, and the law of an import is told beforehand.
func TestDiffWithTheMirror(t *testing.T) {
	dir := t.TempDir()
	if _, err := importText(t, dir, "e.txt", text(t, extraction.Options{Lines: 100}), Options{}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, MirrorName))
	if err != nil {
		t.Fatal(err)
	}
	half := write(t, filepath.Join(t.TempDir(), "half_202611200600.txt"), extraction.Options{Lines: 50})
	d, lines := told(t, dir, "", half, Options{})
	if d.OldName != "e.txt" || d.Old.Addresses != 100 || d.Old.Lines != 100 || d.New.Addresses != 50 || d.Removed != 50 || len(lines) != 50 || !strings.Contains(d.Refused, "more than 20 % fewer") {
		t.Errorf("%+v", d)
	}
	if d, _ := told(t, dir, "", half, Options{MaxShrink: 0.6}); d.Refused != "" {
		t.Errorf("an import with that share takes it: %q", d.Refused)
	}
	if _, err := Diff(t.Context(), dir, "", half, Options{Now: fixed}, nil); err != nil {
		t.Errorf("nobody is told: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, MirrorName)); err != nil || !slices.Equal(before, after) {
		t.Errorf("the mirror was changed: %v", err)
	}
}

// What cannot be compared is an error that says why, and nothing is left behind.
func TestDiffFaults(t *testing.T) {
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	dir, good := t.TempDir(), write(t, filepath.Join(t.TempDir(), "good_202611200600.txt"), extraction.Options{Lines: 50})
	other := write(t, filepath.Join(t.TempDir(), "other_202611200700.txt"), extraction.Options{Lines: 50, Seed: 9})
	bad := filepath.Join(t.TempDir(), "bad_202611200600.txt")
	writeFile(t, bad, "<html>maintenance</html>\n")
	enough := errors.New("enough")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	for name, c := range map[string]struct {
		ctx      context.Context
		old, new string
		each     func(Change) error
		want     func(error) bool
	}{
		"no mirror":   {t.Context(), "", good, nil, func(err error) bool { return strings.Contains(err.Error(), "mirror is missing") }},
		"new refused": {t.Context(), good, bad, nil, refused},
		"old refused": {t.Context(), bad, good, nil, refused},
		"no file":     {t.Context(), good, bad + ".gone", nil, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"given up":    {over, good, other, nil, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"told enough": {t.Context(), good, other, func(Change) error { n++; return enough }, func(err error) bool { return errors.Is(err, enough) && n == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Diff(c.ctx, dir, c.old, c.new, Options{Now: fixed}, c.each); err == nil || !c.want(err) {
				t.Errorf("got %v", err)
			}
			if left, _ := os.ReadDir(scratch); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func refused(err error) bool { return errors.As(err, new(*RefusedError)) }
