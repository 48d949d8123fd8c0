package deploy_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faultTests names the test that makes each fault of the table in docs/operations.md.
var faultTests = map[string]string{
	"database locked by another program":                  "TestFaultDatabaseLocked",
	"database or its `-wal` removed, renamed or replaced": "TestFaultDatabaseAway",
	"database is garbage":                                 "TestFaultDatabaseGarbage",
	"mirror of the directory locked":                      "TestFaultMirrorLocked",
	"directory away, too old or unreadable":               "TestEndToEnd",
	"source of the directory down, slow, cut short, forged or with a file that cannot be right": "TestNoDirectoryStateOpens", // directory: TestFetchStates has every state
	"host of the white list down, its list forged, tampered, older or much smaller":             "TestWhiteListStates",       // trust: TestRefresh, TestFetchFaults, TestAttacks
	"disk of `state_dir` full":             "TestFaultDiskFull",
	"disk stalls":                          "TestFaultDiskStalls",
	"server key gone":                      "TestFaultKeyGone",
	"no room for deposits":                 "TestFaultDepositsFull",
	"disk read-only":                       "TestFaultReadOnly",
	"temp folder (`TMPDIR`) gone or full":  "TestFaultTempFolder",
	"state folder belongs to another user": "TestFaultOwner",
	"port taken":                           "TestFaultPortTaken",
	"out of file descriptors":              "TestFaultDescriptors",
	"clock set ahead or back":              "TestFaultClockMail",
	"table of identities broken or gone":   "TestIdentityTableBroken",
	"certificate of a listener replaced":   "TestFaultListenerCertificate",
	"certificate or revocation list of the trust space run out":                        "TestFaultTrustExpires",
	"the CA's list and responder away, or out of date":                                 "TestStatusUnreachable",
	"a peer of the trust space is bad: run out, revoked, another's, weak, without TLS": "TestPeersOutbound",
	"DNS away":                            "TestFaultDNS",
	"hop does not answer":                 "TestFaultClinicHop",
	"hop stalls":                          "TestFaultFarSide",
	"hop closes or resets the connection": "TestFaultFarSide",
	"hop is lost behind the final dot":    "TestFaultFarSide",
	"hop talks nonsense":                  "TestFaultFarSide",
	"hop says 421":                        "TestFaultFarSide",
	"hop refuses the TLS that it offers":  "TestFaultFarSide",
	"clinic's hand-back listener away":    "TestFaultClinicHop",
	"MSSanté operator refuses our certificate or token, or gets no token":  "TestClientModeRefusals",
	"database (PostgreSQL) or bucket (S3) of several gateways away":        "TestSharedVault",
	"SMS provider away, slow or refusing":                                  "TestFaultSMS",
	"operator's mailbox away, slow, or not letting us in":                  "TestCollectTokens", // collect: TestSilenceAndSlowness, TestFloods
	"A recipient asks for a passphrase again and it cannot be handed over": "TestPhraseAskedAgain",
	"gateway away": "TestDeathsLoseNothing",
}

var (
	wholeReply = regexp.MustCompile("`([45][0-9][0-9] [45]\\.[0-9]\\.[0-9] [^`]+)`")
	anyHop     = regexp.MustCompile(`Relais [^:]+:`)
)

// TestFaultTable: each row has its test, and the test's package knows the reply word by word.
func TestFaultTable(t *testing.T) {
	_, rows, _ := strings.Cut(string(read(t, "..", "docs", "operations.md")), "## When something is away")
	rows, _, _ = strings.Cut(rows, "\n## ")
	tests := map[string]string{} // by package
	for _, dir := range []string{".", filepath.Join("..", "gateway")} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", dir, err)
		}
		for _, f := range files {
			tests[dir] += string(read(t, f))
		}
		tests[dir] = anyHop.ReplaceAllString(tests[dir], "Relais {hop}:")
	}
	seen := map[string]bool{}
	for line := range strings.Lines(rows) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 4 || strings.TrimSpace(cells[0]) == "fault" {
			if strings.HasPrefix(line, "| ") && len(cells) != 4 {
				t.Errorf("row of %d cells: %s", len(cells), line)
			}
			continue
		}
		fault := strings.TrimSpace(cells[0])
		seen[fault] = true
		name := faultTests[fault]
		if name == "" {
			t.Errorf("%q has no test", fault)
			continue
		}
		source := ""
		for _, text := range tests {
			if strings.Contains(text, "\nfunc "+name+"(t *testing.T) {") {
				source = text
			}
		}
		if source == "" {
			t.Errorf("%q: there is no %s", fault, name)
		}
		for _, m := range wholeReply.FindAllStringSubmatch(cells[1], -1) {
			if want := anyHop.ReplaceAllString(m[1], "Relais {hop}:"); !strings.Contains(source, want) {
				t.Errorf("%q: no test beside %s expects %q", fault, name, want)
			}
		}
	}
	for fault := range faultTests {
		if !seen[fault] {
			t.Errorf("%q has no row in docs/operations.md", fault)
		}
	}
}
