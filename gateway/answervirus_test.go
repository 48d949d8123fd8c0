package gateway_test

import (
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
)

// A file with a virus is named to the patient and goes nowhere; where clamd is away the answer waits with him, or goes on and says so.
func TestAnswerIsSearched(t *testing.T) {
	if testing.Short() {
		t.Skip("needs clamd")
	}
	d, err := gatewaytest.StartClamd(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := newLife(t, ", clamd: {addr: "+d.Socket+", unreachable: refuse}")
	b, link := l.opened(t, "Vos résultats")
	token := b.token(link)
	code, page := b.answer(link, token, "Mes <photos>", "bonne.jpg", "JPEG", "a<b>.jpg", gatewaytest.Eicar)
	if code != 422 || !strings.Contains(page, "un fichier contient un virus") || !strings.Contains(page, "<bdi>a_b_.jpg</bdi>") || !strings.Contains(page, "Mes &lt;photos&gt;</textarea>") || len(l.answers()) != 0 {
		t.Errorf("virus: %d, %d answers\n%s", code, len(l.answers()), page)
	}
	if code, _ := b.answer(link, token, "Mes <photos>", "bonne.jpg", "JPEG"); code != 200 || len(l.answers()) != 1 || !strings.Contains(string(l.answers()[0].Data), "Fichiers contr=C3=B4l=C3=A9s") {
		t.Errorf("clean: %d, %d answers", code, len(l.answers()))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if code, page := b.answer(link, b.token(link), "Sans antivirus", "c.jpg", "JPEG"); code != 503 || !strings.Contains(page, "pas pu être contrôlé") || !strings.Contains(page, "Sans antivirus</textarea>") || len(l.answers()) != 1 {
		t.Errorf("away: %d, %d answers\n%s", code, len(l.answers()), page)
	}
	if code, _ := b.answer(link, b.token(link), "Sans fichier"); code != 200 || len(l.answers()) != 2 {
		t.Errorf("a text needs no clamd: %d, %d answers", code, len(l.answers()))
	}
	l.reload(t, "unreachable: refuse", "unreachable: accept")
	if code, _ := b.answer(link, b.token(link), "Sans antivirus", "c.jpg", "JPEG"); code != 200 || len(l.answers()) != 3 || !strings.Contains(string(l.answers()[2].Data), "ATTENTION") {
		t.Errorf("away, accepted: %d, %d answers", code, len(l.answers()))
	}
}
