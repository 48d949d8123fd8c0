package gateway_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"passerelle/config"
	"passerelle/crypto/zipaes"
	"passerelle/gateway"
)

// TestSealedSecretOpensTheZIP: what the list has sealed is the passphrase of the archive; under another server key the list is refused.
func TestSealedSecretOpensTheZIP(t *testing.T) {
	dir := t.TempDir()
	key, list := filepath.Join(dir, "server.key"), filepath.Join(dir, "list.yaml")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(key, strings.Repeat("7a", 32)+"\n")
	s, err := gateway.NewSecretSealer(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	const phrase = "corail-menthe-sillon"
	text, weakness, err := s.Seal("Agreed@zip.test", phrase)
	if err != nil || weakness != "" || strings.Contains(text, "corail") {
		t.Fatal(text, weakness, err)
	}
	put(list, "- {address: agreed@zip.test, secret: \""+text+"\"}\n")
	h := custom(t, "key_file: \""+key+"\"\n"+withRules("directory: {list: \""+list+"\"}\npickup: {url: \"http://{portal}\"}\nrules:\n  - {name: zip, route: encrypt, form: zip}\n"), nil, nil)
	if got := h.send(h.lmtp, "dr@clinic.test", hello, "agreed@zip.test"); codes(got) != "250" {
		t.Fatal(got)
	}
	data := h.sink.To("agreed@zip.test")[0].Data
	part := regexp.MustCompile(`(?s)application/zip.*?\r\n\r\n(.*?)\r\n--`).FindSubmatch(data)
	if part == nil {
		t.Fatalf("no archive in\n%s", data)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(part[1]), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, f := range z.File {
		r, err := zipaes.Open(f, phrase)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all += string(p)
	}
	if !strings.Contains(all, "bonjour") {
		t.Errorf("the archive holds %q", all)
	}

	put(list, "- {address: other@zip.test, secret: \""+text+"\"}\n")
	if err := h.g.Reload(t.Context(), func() (*config.Config, error) {
		return config.Load(filepath.Join(h.dir, "passerelle.yaml"), os.LookupEnv)
	}); err == nil || !strings.Contains(err.Error(), "sealed for another address") || strings.Contains(err.Error(), "sealed:v1") {
		t.Errorf("pasted to another entry: %v", err)
	}
	if log := h.log.String(); strings.Contains(log, "corail") || strings.Contains(log, text) {
		t.Error("the phrase is in the log")
	}
}
