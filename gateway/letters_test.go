package gateway

import (
	netmail "net/mail"
	"strings"
	"testing"

	"passerelle/gateway/message"
	"passerelle/gateway/portal"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// A sender's label with the signs of an address in it is still a label, in what goes to the clinic's staff.
func TestLabelsOfOurMails(t *testing.T) {
	g := bare()
	g.budget = message.NewBudget(1<<20, t.TempDir())
	g.set.clinicName, g.set.postmaster = "Clinique St. Jean (Lyon), Rhône", "postmaster@clinic.test"
	dr := message.Address{Local: "dr", Domain: "clinic.test"}
	var err error
	if g.vault, err = vault.Unopened(vault.Config{Key: [32]byte{1}, PublicURL: "https://portail.clinic.test", Clinic: vault.Clinic{Name: "Clinique"}}); err != nil {
		t.Fatal(err)
	}
	answer, err := g.answerMail(portal.Answer{From: message.Address{Local: "p(a)", Domain: "mail.test"}, To: dr, Text: "x"}, "id", notAsked)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	names := []*message.Body{g.ownMail(dr, "s", "x"), answer}
	g.set.clinicName = "Clinique St. Jean (Lyon), Rhone"
	for _, b := range append(names, g.ownMail(dr, "s", "x")) {
		m, err := netmail.ReadMessage(b.Section(0, -1))
		if err != nil {
			t.Fatal(err)
		}
		a, err := m.Header.AddressList("From")
		if err != nil || len(a) != 1 || a[0].Address != "postmaster@clinic.test" || !strings.Contains(a[0].Name, "(") {
			t.Errorf("%q: %v, %v", m.Header.Get("From"), a, err)
		}
	}
}

// The vault is promised that to delete what is not there is no error: two sweeps may meet.
func TestBlobIsDeletedTwice(t *testing.T) {
	blobs, err := store.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v := vaultBlobs{blobs}
	if err := v.Put(t.Context(), "a", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	}
}
