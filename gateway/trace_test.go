package gateway_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/store"
)

// TestCommandsLeaveAnothersFolderAlone: what root makes in the service's folder the service cannot read, and it does not start any more.
func TestCommandsLeaveAnothersFolderAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives a folder to another user: needs root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil { // nobody
		t.Fatal(err)
	}
	cfg := &config.Config{StateDir: dir}
	_, keys := gateway.OpenKeys(t.Context(), cfg)
	_, imported := gateway.ImportDirectory(t.Context(), dir, "../testdata/directory/extraction-sample.txt", false, nil)
	_, _, refreshed := gateway.RefreshDirectory(t.Context(), cfg, nil)
	for what, err := range map[string]error{"keys": keys, "import": imported, "refresh": refreshed} {
		if err == nil || !strings.Contains(err.Error(), "belongs to nobody: run it as that user (runuser -u nobody -- passerelle ...)") {
			t.Errorf("%s: %v", what, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("made %v, %v", left, err)
	}
}

// TestTraceBesideAHalfMadeFolder: a ledger that is not there yet has noted nothing.
func TestTraceBesideAHalfMadeFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/passerelle.db", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := gateway.Trace(t.Context(), &config.Config{StateDir: dir}, gateway.LedgerFilter{})
	if err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := os.Stat(dir + "/passerelle.db-wal"); err == nil {
		t.Error("reading made a log")
	}
}

// TestTraceBesideAnOlderLedger: a new program beside a gateway that was not started anew says so, in no words of SQL.
func TestTraceBesideAnOlderLedger(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), "ledger", `CREATE TABLE ledger_entries (seq INTEGER PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{StateDir: dir}
	_, trace := gateway.Trace(t.Context(), cfg, gateway.LedgerFilter{})
	_, rules := gateway.TraceRules(t.Context(), cfg, time.Now())
	for what, err := range map[string]error{"trace": trace, "rules": rules} {
		if err == nil || !strings.HasSuffix(err.Error(), "is of an older version: the gateway brings it up to date at its start") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
