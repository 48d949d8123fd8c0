package gateway_test

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// arrows is the map of doc.go: each package and what it may import of ours. A pattern ending in /* stands for every package below.
// A line may stand before its room does; a package without a line fails.
var arrows = map[string][]string{
	"cmd/passerelle":      {"config", "gateway", "cmd/passerelle/demo"},
	"cmd/passerelle/demo": {"gateway/gatewaytest", "crypto/zipaes"}, // it opens what it receives
	"config":              {"policy"},
	"policy":              nil,
	"crypto/*":            nil,
	"crypto/openpgp":      {"crypto/lines"}, // its armour
	"deploy":              nil,
	"deploy/bench":        {"gateway/gatewaytest", "crypto/seal"}, // it fills a vault with rows of its own
	"docs":                nil,

	"gateway": {"config", "policy", "crypto/*", "gateway/message", "gateway/smtpd", "gateway/directory", "gateway/trust", "gateway/protect",
		"gateway/vault", "gateway/portal", "gateway/relay", "gateway/collect", "gateway/ledger", "gateway/store", "gateway/console", "gateway/addressbook",
		"gateway/duties", "gateway/keyring"},
	"gateway/message":              nil,
	"gateway/store":                nil,
	"gateway/duties":               nil,
	"gateway/console":              nil,
	"gateway/web":                  nil,
	"gateway/gatewaytest":          nil,
	"gateway/gatewaytest/chromium": nil,
	"gateway/trust":                {"gateway/message"},
	"gateway/smtpd":                {"gateway/message", "gateway/trust"},
	"gateway/relay":                {"gateway/message", "gateway/trust"},
	"gateway/collect":              {"gateway/message", "gateway/trust"},
	"gateway/directory/extraction": nil, // writes fixtures
	"gateway/directory":            {"gateway/message", "gateway/store"},
	"gateway/ledger":               {"gateway/message", "gateway/store"},
	"gateway/protect":              {"gateway/message", "crypto/*"},
	"gateway/vault":                {"gateway/message", "gateway/store", "crypto/*"},
	"gateway/keyring":              {"gateway/message", "gateway/store", "crypto/*"},
	"gateway/addressbook":          {"gateway/message", "gateway/web"},
	"gateway/portal":               {"gateway/message", "gateway/vault", "gateway/web"},
}

func TestArrows(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, fault := range check(arrows, string(out)) {
		t.Error(fault)
	}
}

// TestArrowsNamesTheOffender: the test above would be worth nothing if it could not fail.
func TestArrowsNamesTheOffender(t *testing.T) {
	table := map[string][]string{"policy": nil, "config": {"policy"}, "vault": {"crypto/*"}}
	got := check(table, strings.Join([]string{
		"passerelle/policy fmt passerelle/config",
		"passerelle/config passerelle/policy",
		"passerelle/vault passerelle/crypto/seal",
		"passerelle/util strings",
	}, "\n"))
	want := []string{"policy imports config: no such arrow on the map", "util has no line on the map"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func check(table map[string][]string, list string) (faults []string) {
	const module = "passerelle/"
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		room, ok := strings.CutPrefix(fields[0], module)
		if !ok {
			continue
		}
		allowed, ok := table[room]
		if !ok {
			allowed, ok = table[path.Dir(room)+"/*"]
		}
		if !ok {
			faults = append(faults, room+" has no line on the map")
			continue
		}
		for _, imported := range fields[1:] {
			ours, ok := strings.CutPrefix(imported, module)
			if ok && !slices.Contains(allowed, ours) && !slices.Contains(allowed, path.Dir(ours)+"/*") {
				faults = append(faults, room+" imports "+ours+": no such arrow on the map")
			}
		}
	}
	return faults
}
