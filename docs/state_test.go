package docs_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"passerelle/gateway"
	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

// TestState: an open gateway's folder holds what the page names, with the modes that it names, and nothing else.
func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	download(t, dir)
	lists(t, dir)
	c, err := parse("state_dir: " + dir + "\ndirectory: {fhir: {url: \"http://127.0.0.1:9\"}}")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.Open(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	want := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w.-]+)` \\| (\\d+) \\|").FindAllStringSubmatch(page(t, "state.md"), -1) {
		want[m[1]] = m[2]
	}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		name, mode := filepath.Base(p), fmt.Sprintf("0%o", fi.Mode().Perm())
		if p == dir {
			name, want[name] = "state", "0700"
		}
		if want[name] != mode {
			t.Errorf("%s has mode %s, the page says %q", name, mode, want[name])
		}
		delete(want, name)
		return err
	})
	if err != nil || len(want) > 0 {
		t.Errorf("%v; not there: %v", err, want)
	}
}

// TestIdentities: the table of identities.md is one, and has every column.
func TestIdentities(t *testing.T) {
	text, err := os.ReadFile("identities.md")
	if err != nil {
		t.Fatal(err)
	}
	m := fence.FindStringSubmatch(string(text))
	if m == nil || m[2] != "identities" {
		t.Fatal("no table")
	}
	try := func(table string) *trust.Identities {
		t.Helper()
		file := filepath.Join(t.TempDir(), "identities.csv")
		if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := trust.NewIdentities(trust.IdentityConfig{Table: file, ClinicDomains: []string{"clinique.example"}, OwnDomains: []string{"clinique.mssante.example"}})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	as, refusal := try(m[3]).WritesAs(trust.Writing{Envelope: message.Address{Local: "sophie", Domain: "clinique.example"}, Author: message.Address{Local: "dr.martin", Domain: "clinique.example"}})
	if refusal != "" || as.Label != "Dr_Jean_MARTIN_Cardiologie" || as.Writer.Local != "sophie" {
		t.Errorf("%+v %s", as, refusal)
	}
	for _, name := range column(string(text)) {
		if name != "address" && name != "mailbox" {
			try("address;mailbox;" + name + "\na@clinique.example;-;\n")
		}
	}
}
