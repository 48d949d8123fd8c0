package directory

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/directory/extraction"
)

// BenchmarkSearch asks a mirror of 1 000 000 lines, or of the number in LINES, what a secretary types; the figures are of single searches.
func BenchmarkSearch(b *testing.B) {
	lines := 1_000_000
	fmt.Sscan(os.Getenv("LINES"), &lines)
	dir := b.TempDir()
	file := write(b, filepath.Join(b.TempDir(), extraction.FileName(day)), extraction.Options{Lines: lines, Seed: 1, Duplicates: lines / 3000})
	s, err := Import(context.Background(), dir, file, Options{Now: fixed})
	if err != nil {
		b.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, MirrorName))
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("import %v, mirror %d MB", s.Took, fi.Size()>>20)
	d := open(b, Config{StateDir: dir, Now: fixed})
	for _, q := range []string{"dupont", "Dr Dupond", "dupont cardio lyon", "Le Goff Hélène", "d'almeida", "mar", "m", "medecin", "martin medecin paris generaliste jean",
		extraction.RPPS(77_777), "jean.dupont@", "saint-denis pédiatre", "zzzzzz qqqqq"} {
		b.Run(q, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := d.Search(context.Background(), Query{Text: q}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

var _ = strings.TrimSpace
