package gateway_test

import (
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/config"
	"passerelle/gateway"
	"passerelle/gateway/directory"
	"passerelle/gateway/gatewaytest"
)

// TestAddressBook: the page and the LDAP server show the mirror's mailboxes, count one client's searches together, say that the directory
// is away, and take new networks by a reload.
func TestAddressBook(t *testing.T) {
	tool, err := exec.LookPath("ldapsearch")
	if err != nil {
		if testing.Short() {
			t.Skip("ldapsearch is not here")
		}
		t.Fatal("ldapsearch is needed: apt-get install ldap-utils")
	}
	ca, err := gatewaytest.NewCA("Clinic")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.IssueLocal(pkix.Name{CommonName: "localhost"}, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	tls := t.TempDir()
	if err := ca.WriteDir(tls, cert); err != nil {
		t.Fatal(err)
	}
	page, ldap, now := freeAddr(t), freeAddr(t), time.Now()
	file := filepath.Join(t.TempDir(), "extraction.txt")
	doors := fmt.Sprintf("  addressbook: {addr: %q}\n  ldap: {addr: %q, tls_dir: %q}\n", page, ldap, tls)
	text := strings.Replace(withRules(plainRules), "hops:\n", doors+"hops:\n", 1) + "directory: {extraction: \"" + file + "\"}\n"
	h := custom(t, text, nil, func(h *house) {
		h.opts = append(h.opts, gateway.Clock(func() time.Time { return now })) // no search is given back
		if err := gatewaytest.WriteDirectory(file, gatewaytest.Doctor("helene.noel@medecin.mssante.fr", "Hélène", "Lefèvre-Noël"),
			gatewaytest.Doctor("jean.dupont@medecin.mssante.fr", "Jean", "Dupont"), gatewaytest.Hospital("secretariat@chu.mssante.fr", "CHU DE LYON")); err != nil {
			t.Fatal(err)
		}
	})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(q string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + page + "/?q=" + url.QueryEscape(q))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	search := func(want int, filter string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tool, "-LLL", "-x", "-ZZ", "-o", "ldif-wrap=no", "-H", "ldap://"+ldap, "-b", "o=annuaire", filter, "mail", "title")
		cmd.Env = []string{"HOME=" + tls, "LDAPTLS_CACERT=" + filepath.Join(tls, "ca.pem")}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: %d, want %d: %v\n%s", filter, code, want, err, out)
		}
		return string(out)
	}
	if code, body := get("lefevre helene"); code != 200 || !strings.Contains(body, "mailto:helene.noel@medecin.mssante.fr") || strings.Contains(body, "dupont@") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get("jean.dupont@medecin.mssante.fr"); code != 200 || !strings.Contains(body, "mailto:jean.dupont@medecin.mssante.fr") {
		t.Errorf("%d %s", code, body)
	}
	for _, nobody := range []string{"docteur", "monsieur le", "AND OR NOT", "\"dup*\" NEAR", "xyzzy", strings.Repeat("a b ", 100)} {
		if code, body := get(nobody); code != 200 || strings.Contains(body, "ne peut pas") {
			t.Errorf("%q: %d", nobody, code)
		}
	}
	for filter, mail := range map[string]string{
		"(&(objectclass=*)(|(cn=lefèvre*)(mail=lefèvre*)(sn=lefèvre*)))":                                             "helene.noel@medecin.mssante.fr",
		"(&(mail=*)(|(mail=lefevre-n*)(|(cn=lefevre-n*)(|(sn=lefevre-n*)(givenName=lefevre-n*)))))":                  "helene.noel@medecin.mssante.fr",
		"(&(mail=*)(|(mail=jean.dupont@med*)(|(cn=jean.dupont@med*)(sn=jean.dupont@med*))))":                         "jean.dupont@medecin.mssante.fr",
		"(mail=jean.dupont@medecin.mssante.fr)":                                                                      "jean.dupont@medecin.mssante.fr",
		"(&(|(objectclass=person)(objectclass=inetorgperson))(|(cn=*chu de l*)(mail=*chu de l*)(sn=*chu de l*)))":    "secretariat@chu.mssante.fr",
		"(&(objectclass=*)(&(|(cn=*jean*)(givenname=*jean*)(sn=*jean*))(|(cn=*dupo*)(givenname=*dupo*)(sn=*dup*))))": "jean.dupont@medecin.mssante.fr",
	} {
		if out := search(0, filter); strings.Count(out, "mail:") != 1 || !strings.Contains(out, "mail: "+mail) {
			t.Errorf("%s: %s", filter, out)
		}
	}
	search(11, "(objectClass=*)")

	mirror := filepath.Join(h.dir, "state", directory.MirrorName)
	if err := os.Rename(mirror, mirror+".away"); err != nil {
		t.Fatal(err)
	}
	if code, body := get("dupont"); code != 503 || strings.Contains(body, "mailto:") {
		t.Errorf("without a mirror: %d %s", code, body)
	}
	search(52, "(sn=dupont)")
	if err := os.Rename(mirror+".away", mirror); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; n < 100; n++ {
		if code, _ := get("dupont"); code == 429 {
			break
		}
	}
	if n == 0 || n > 16 {
		t.Errorf("limited after %d searches", n)
	}
	search(51, "(sn=dupont)") // the same client's share

	path := filepath.Join(h.dir, "passerelle.yaml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	narrow := strings.NewReplacer("ldap: {", "ldap: {networks: [192.0.2.0/24], ", "addressbook: {", "addressbook: {networks: [192.0.2.0/24], ", ldap, freeAddr(t)).Replace(string(old))
	if err := os.WriteFile(path, []byte(narrow), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) { return config.Load(path, os.LookupEnv) }); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(""); code != 403 {
		t.Errorf("from another network: %d", code)
	}
	search(1, "(sn=dupont)")
	if !strings.Contains(h.log.String(), "listen.ldap.addr") {
		t.Error("nothing says that another address takes a restart")
	}
	if log := h.log.String(); strings.Contains(strings.ToLower(log), "dupont") || strings.Contains(log, "lefevre") {
		t.Errorf("the log says who was searched for: %s", log)
	}
}
