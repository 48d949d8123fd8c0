package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"passerelle/config"
)

// TestMSSanteExamples: what the page shows is what a config takes, and its first words are what an operator must know first.
func TestMSSanteExamples(t *testing.T) {
	text, err := os.ReadFile("mssante.md")
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(text), "```")
	if !strings.HasPrefix(first, "# MSSanté: how the clinic gets in\n\n**Unattended sending means an application mailbox with a certificate.**") {
		t.Error("the page does not begin with the application mailbox")
	}
	for _, word := range []string{"contract with the ANS", "MOTCO1"} {
		if !strings.Contains(first, word) || rest == "" {
			t.Errorf("operator mode is shown before %q", word)
		}
	}
	found := regexp.MustCompile("(?ms)^```yaml (\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(found) != 4 {
		t.Fatalf("%d examples", len(found))
	}
	for _, m := range found {
		c, err := config.Parse("mssante.md", []byte("clinic: {domains: [clinique.example]}\nhops: {clinic: {addr: \"192.0.2.1:25\"}, internet: {addr: \"192.0.2.1:26\"}}\npickup: {url: \"https://c.example\"}\n"+m[2]),
			func(string) (string, bool) { return "", false }, config.Files(func(string) error { return nil }))
		if err != nil {
			t.Error(err)
		} else if client := m[1] != "operator"; c.Trust.Client() != client || c.Trust.WhiteList.URL == "" || !client && c.Listen.Trust.Addr == "" {
			t.Errorf("not what it is shown as:\n%s", m[2])
		}
	}
}
