package config

import "testing"

// TestOIDCOff: a provider whose client_id is there and empty is none, so that no button of it stands on a page.
func TestOIDCOff(t *testing.T) {
	const fc = `{name: fc, issuer: "https://fc.test", client_id: "${FC_CLIENT_ID:-}", for: patients, claims: {birth_name: a, first_name: b, birth_date: c}}`
	for id, want := range map[string]int{"": 0, "given": 1} {
		c, err := Parse("c.yaml", []byte(`clinic: {domains: [clinic.test]}
hops: {clinic: {addr: "127.0.0.1:10026"}, internet: {addr: "192.0.2.1:25"}}
pickup: {url: "https://mail.clinic.test", oidc: [`+fc+`]}
`), func(name string) (string, bool) { return id, name == "FC_CLIENT_ID" && id != "" })
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Pickup.OIDC) != want {
			t.Errorf("client_id %q: %d providers, want %d", id, len(c.Pickup.OIDC), want)
		}
	}
}
