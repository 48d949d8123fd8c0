package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var (
	metric     = regexp.MustCompile(`passerelle_[a-z_]+`)
	quoted     = regexp.MustCompile(`"(passerelle_[a-z_]+)"`)
	documented = regexp.MustCompile("(?m)^\\| `(passerelle_[a-z_]+)")
)

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names are the metrics that an expression reads, a histogram by its own name.
func names(expr string) []string {
	var out []string
	for _, n := range metric.FindAllString(expr, -1) {
		out = append(out, strings.TrimSuffix(n, "_bucket"))
	}
	return out
}

// TestBoardAndAlerts: both parse, every panel and rule asks something, and each metric they name stands in docs/operations.md.
func TestBoardAndAlerts(t *testing.T) {
	known := map[string]bool{}
	for _, m := range documented.FindAllSubmatch(read(t, "..", "docs", "operations.md"), -1) {
		known[string(m[1])] = true
	}
	if len(known) < 15 {
		t.Fatalf("docs/operations.md lists %d metrics: %q", len(known), slices.Sorted(maps.Keys(known)))
	}
	asks := func(where, expr string) {
		t.Helper()
		all := names(expr)
		if len(all) == 0 && !strings.Contains(expr, "up{") {
			t.Errorf("%s reads no metric of ours: %q", where, expr)
		}
		for _, n := range all {
			if !known[n] {
				t.Errorf("%s: %s does not stand in docs/operations.md", where, n)
			}
		}
	}

	var board struct {
		Title         string `json:"title"`
		UID           string `json:"uid"`
		SchemaVersion int    `json:"schemaVersion"`
		Panels        []struct {
			ID      int                            `json:"id"`
			Title   string                         `json:"title"`
			Type    string                         `json:"type"`
			GridPos struct{ X, Y, W, H int }       `json:"gridPos"`
			Targets []struct{ RefID, Expr string } `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(read(t, "grafana", "passerelle.json"), &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || board.SchemaVersion < 30 || len(board.Panels) == 0 {
		t.Errorf("the board lacks a title, a uid, a schema version or panels: %+v", board)
	}
	ids := map[int]bool{}
	for i, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.Type == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: id taken, or no title, type, target, or wider than the board", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range board.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q overlap", q.Title, p.Title)
			}
		}
		for _, target := range p.Targets {
			asks("panel "+p.Title, target.Expr)
		}
	}

	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(read(t, "prometheus", "alerts.yml"), &alerts, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["what_to_do"] == "" {
				t.Errorf("alert %q lacks a name, a severity, a summary or what to do", r.Alert)
			}
			asks("alert "+r.Alert, r.Expr)
		}
	}
}

// TestYAMLFilesParse: no file of this folder is broken YAML, and every bench file has ten rules of which the last decides, but that of the
// vault's own load.
func TestYAMLFilesParse(t *testing.T) {
	files, err := filepath.Glob("*/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		var v struct {
			Rules []map[string]any `yaml:"rules"`
		}
		if err := yaml.Unmarshal(read(t, f), &v); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if filepath.Dir(f) == "bench" && f != "bench/vault.yaml" && (len(v.Rules) != 10 || v.Rules[9]["name"] != "bench") {
			t.Errorf("%s has %d rules, want ten, the last named bench", f, len(v.Rules))
		}
	}
}

// TestMetricsDocumented: operations.md has the metrics that the code declares, and no other.
func TestMetricsDocumented(t *testing.T) {
	declared := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", "gateway"), func(p string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") {
			for _, m := range quoted.FindAllSubmatch(read(t, p), -1) {
				declared[string(m[1])] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range documented.FindAllSubmatch(read(t, "..", "docs", "operations.md"), -1) {
		known[string(m[1])] = true
	}
	if !maps.Equal(known, declared) {
		t.Errorf("docs/operations.md has %q\nthe code declares  %q", slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(declared)))
	}
}
