package extraction

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write testdata/directory/extraction-sample.txt anew")

func TestSampleUpdate(t *testing.T) {
	if !*update {
		return
	}
	f, err := os.Create("../../../testdata/directory/extraction-sample.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(f, Options{Lines: 24, Seed: 1, UnknownColumn: true, ReorderedHeader: true, Duplicates: 2}); err != nil {
		t.Fatal(err)
	}
}

func TestWrite(t *testing.T) {
	o := Options{Lines: 5000, Seed: 3, Duplicates: 10, BadUTF8: 4, Malformed: 2, Extra: []Row{Organisation("x@dest.test", "X", FINESS(1))}}
	var a, b bytes.Buffer
	if err := Write(&a, o); err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, o); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatal("the same options gave other bytes")
	}
	lines := strings.Split(strings.TrimSuffix(a.String(), "\n"), "\n")
	if len(lines) != 5001 || strings.Count(lines[0], "|") != 30 {
		t.Fatalf("%d lines, header %q", len(lines), lines[0])
	}
	seen := make(map[string]bool)
	var bad, short, again int
	for _, l := range lines[1:] {
		f := strings.Split(l, "|")
		if len(f) != 31 {
			short++
			continue
		}
		if !utf8.ValidString(l) {
			bad++
		}
		if k := strings.ToLower(f[1]); seen[k] {
			again++
		} else {
			seen[k] = true
		}
		if f[0] == "PER" && (len(f[3]) != 11 || !luhn(f[3])) {
			t.Fatalf("RPPS %q", f[3])
		}
	}
	if bad != 4 || short != 2 || again != 10 {
		t.Fatalf("%d bad, %d short, %d again", bad, short, again)
	}
}

// luhn is the check as ISO/IEC 7812-1 words it, apart from the code that makes the key.
func luhn(s string) bool {
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
			d = d/10 + d%10
		}
		sum += d
	}
	return sum%10 == 0
}
