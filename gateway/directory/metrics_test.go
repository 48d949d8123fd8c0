package directory

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauge reads one metric as a scrape does.
func gauge(t *testing.T, name, kind string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			hit := kind == ""
			for _, l := range m.Label {
				hit = hit || l.GetValue() == kind
			}
			if hit && f.GetName() == name {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestMetrics(t *testing.T) {
	open(t, Config{StateDir: t.TempDir()}).Close()
	if v := gauge(t, "passerelle_directory_age_seconds", ""); !math.IsNaN(v) {
		t.Fatalf("age without a directory: %v, want NaN", v)
	}
	d, dir, c := mirrored(t)
	before := gauge(t, "passerelle_directory_asked_total", CouldNotAsk)
	c.add(time.Hour)
	if v := gauge(t, "passerelle_directory_age_seconds", ""); v < 24*3600 || v > 27*3600 { // the file's name is in Paris time
		t.Fatalf("age: %v", v)
	}
	if per, org := gauge(t, "passerelle_directory_entries", "PER"), gauge(t, "passerelle_directory_entries", "ORG"); per+org != 500 || org != 71 {
		t.Fatalf("entries: %v and %v", per, org)
	}
	if err := os.Remove(filepath.Join(dir, MirrorName)); err != nil {
		t.Fatal(err)
	}
	if v := gauge(t, "passerelle_directory_age_seconds", ""); !math.IsInf(v, 1) { // seen without anybody asking
		t.Fatalf("age of a mirror that vanished: %v, want +Inf", v)
	}
	want(t, d, someone, CouldNotAsk, "missing")
	if v := gauge(t, "passerelle_directory_asked_total", CouldNotAsk); v != before+1 {
		t.Fatalf("asked: %v, want %v", v, before+1)
	}
}
