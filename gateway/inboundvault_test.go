package gateway_test

import (
	"io"
	"io/fs"
	"log/slog"
	"mime/quotedprintable"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"passerelle/gateway"
	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
	"passerelle/gateway/portal"
)

var pageLink = regexp.MustCompile(`http://127\.0\.0\.1:\d+/r/[a-z0-9]+`)

// linkIn is the link of a notice.
func linkIn(t *testing.T, data []byte) string {
	t.Helper()
	plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(string(data))))
	link := pageLink.FindString(string(plain))
	if link == "" {
		t.Fatalf("no link (%v) in\n%s", err, data)
	}
	return link
}

// browser opens pages.
type browser struct {
	t *testing.T
	c http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, http.Client{Jar: jar}}
}

func (b *browser) get(url string) (int, string) {
	b.t.Helper()
	r, err := b.c.Get(url)
	return b.read(r, err)
}

func (b *browser) post(link string, form url.Values) (int, string) {
	b.t.Helper()
	r, err := b.c.PostForm(link, form)
	return b.read(r, err)
}

func (b *browser) read(r *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.StatusCode, string(page)
}

// newGuarded is a clinic whose mailboxes of mss.clinic.test are kept in the vault but for open@: phone@ proves himself by SMS, words@ by a
// phrase; nobody@ and landline@ cannot.
func newGuarded(t *testing.T, more string, prepare ...func(*house)) (*inSpace, *gatewaytest.SMS) {
	t.Helper()
	sms := gatewaytest.StartSMS()
	t.Cleanup(func() { sms.Close() })
	list := listFile(t, "adresse;phone;secret\nphone@mss.clinic.test;06 12 34 56 78;\nwords@mss.clinic.test;01 40 00 00 00;Le  chat noir 7\nlandline@mss.clinic.test;01 40 00 00 00;\nopen@mss.clinic.test;;\n")
	return newArrivals(t, "pickup: {url: \"http://{portal}\", code: sender}\nsms: {url: \""+sms.URL()+"\"}\n"+
		"inbound: {mailboxes: {\"*@mss.clinic.test\": vault, \"OPEN@mss.clinic.test\": deliver}"+more+"}\n", "list: \""+list+"\"", prepare...), sms
}

// A guarded mailbox gets a neutral notice; the content opens on the page for who proves himself, and nothing answers from there.
func TestInboundVault(t *testing.T) {
	h, sms := newGuarded(t, ", subject_mark: \"[MSS]\", unpack_xdm: true")
	const from = patientA + "@patient.test"
	content := mixed("Content-Type: multipart/mixed; boundary=b\n", "--b\nContent-Type: text/plain; charset=utf-8\n\nGLYCEMIE 7,2\n--b\n"+xdmFields+"\n"+archive(t, "METADATA.XML", "<a/>", "A.PDF", pdf)+"--b--\n")
	content = strings.Replace(content, "marie.durand@peer.mssante.test", from, 1)
	rcpt, dot := h.receive(t, from, content, "phone@mss.clinic.test", "words@mss.clinic.test", "open@mss.clinic.test", "nobody@mss.clinic.test", "landline@mss.clinic.test")
	if dot[:3] != "250" {
		t.Fatalf("%q %s", rcpt, dot)
	}
	for i, want := range []string{"250", "250", "250", "451 4.3.5", "451 4.3.5"} {
		if !strings.HasPrefix(rcpt[i], want) {
			t.Errorf("RCPT %d: %q, want %s", i, rcpt[i], want)
		}
	}
	open := h.clinic.To("open@mss.clinic.test")
	if len(open) != 1 || !strings.Contains(string(open[0].Data), "GLYCEMIE") || open[0].Sender != from {
		t.Fatalf("%d for the open mailbox", len(open))
	}
	for to, proof := range map[string]string{"phone@mss.clinic.test": "", "words@mss.clinic.test": " Le chat  noir 7 "} {
		ms := h.clinic.To(to)
		if len(ms) != 1 {
			t.Fatalf("%s: %d notices", to, len(ms))
		}
		data := string(ms[0].Data)
		for _, s := range []string{"GLYCEMIE", "CORSE", "BILAN", "PDF", patientA, "durand", "Le chat"} {
			if strings.Contains(data, s) {
				t.Errorf("%s: the notice says %q:\n%s", to, s, data)
			}
		}
		if ms[0].Sender != "postmaster@clinic.test" || !strings.Contains(mark(t, strings.ReplaceAll(data, "\r\n", "\n")), "v2; notice; verified=peer CN=mss.peer.test,O=PEER,C=FR; cert=") ||
			!strings.Contains(data, "sender=patient, INS valid") {
			t.Errorf("%s: %s\n%s", to, ms[0].Sender, data)
		}
		link := linkIn(t, ms[0].Data)
		b := newBrowser(t)
		if _, page := b.get(link); strings.Contains(page, "GLYCEMIE") || strings.Contains(page, patientA) || strings.Contains(page, "6 chiffres vous est donné") {
			t.Errorf("%s: before the proof:\n%s", to, page)
		}
		if proof == "" {
			if code, _ := b.post(link+"/code", nil); code != 200 || len(sms.Messages()) != 1 {
				t.Fatalf("no code was sent: %d", code)
			}
			proof = regexp.MustCompile(`\d{6}`).FindString(sms.Messages()[0].Text)
		} else {
			if code, page := b.post(link, url.Values{"code": {"le chat noir 7"}}); code != 403 || !strings.Contains(page, "Cette phrase n’est pas la bonne") {
				t.Errorf("a wrong phrase: %d\n%s", code, page)
			}
		}
		code, page := b.post(link, url.Values{"code": {proof}})
		if code != 200 || !strings.Contains(page, "GLYCEMIE 7,2") || !strings.Contains(page, "XDM_A.PDF") || !strings.Contains(page, "BILAN CORSE") {
			t.Errorf("%s: %d\n%s", to, code, page)
		}
		if strings.Contains(page, "<textarea") {
			t.Error("the page takes an answer")
		}
		clinic := len(h.clinic.Messages())
		if code, _ := b.post(link+"/reponse", url.Values{"texte": {"oui"}}); code != 403 || len(h.clinic.Messages()) != clinic {
			t.Errorf("an answer left: %d", code)
		}
		// A mailbox that forwards passes the notice on where a rule of the operator names it; it holds nothing, and loses our mark outside.
		round := strings.ReplaceAll(data, "\r\n", "\n")
		if got := h.send(h.lmtp, "postmaster@clinic.test", round, to[:5]+"@gmail.test", to[:5]+"@clinic.test"); codes(got) != "250 250" {
			t.Errorf("forwarded: %q", got)
		}
		if out := h.sink.To(to[:5] + "@gmail.test"); len(out) != 1 || strings.Contains(string(out[0].Data), "X-Passerelle-Origine") || strings.Contains(string(out[0].Data), "patient") {
			t.Errorf("%d forwarded", len(out))
		}
		if in := h.clinic.To(to[:5] + "@clinic.test"); len(in) != 1 || mark(t, strings.ReplaceAll(string(in[0].Data), "\r\n", "\n")) != mark(t, round) {
			t.Error("the notice lost its mark")
		}
	}
	if log := h.log.String(); strings.Contains(log, patientA) || strings.Contains(log, "chat") {
		t.Error("the log says too much")
	}
	if got := h.rows(); got["phone@mss.clinic.test"] != "delivered" || got["words@mss.clinic.test"] != "delivered" {
		t.Errorf("rows %v", got)
	}
}

// A notice that the clinic's server does not take leaves nothing behind, and the peer comes again: then it is there once.
func TestInboundVaultLater(t *testing.T) {
	var away atomic.Bool
	h, _ := newGuarded(t, "", func(h *house) {
		h.clinicReply = func(string) gatewaytest.Reply {
			if away.Swap(false) {
				return gatewaytest.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "pas maintenant"}
			}
			return gatewaytest.Reply{}
		}
	})
	payloads := func() (n int) {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(h.dir, "state", "deposits"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && len(d.Name()) == 32 {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	w := h.space.dial(t, h.house)
	w.want("250", "MAIL FROM:<labo@peer.mssante.test>")
	w.want("250", "RCPT TO:<phone@mss.clinic.test>")
	away.Store(true)
	if got := w.data(peerLetter("labo@peer.mssante.test", "x")); got[:3] != "451" {
		t.Fatal(got)
	}
	if n, m := payloads(), len(h.clinic.Messages()); n != 0 || m != 0 {
		t.Errorf("%d deposits, %d notices", n, m)
	}
	if _, dot := h.receive(t, "labo@peer.mssante.test", peerLetter("labo@peer.mssante.test", "x"), "phone@mss.clinic.test"); dot[:3] != "250" || len(h.clinic.Messages()) != 1 || payloads() != 1 {
		t.Errorf("repeat: %s, %d notices, %d deposits", dot, len(h.clinic.Messages()), payloads())
	}
}

// The answer of a page never goes to the trust space by way of the clinic's server, whatever deposit it belongs to.
func TestAnswerNeverLeavesForTheTrustSpace(t *testing.T) {
	h := newArrivals(t, "pickup: {url: \"http://{portal}\"}\n", "")
	for to, ok := range map[string]bool{"marie.durand@peer.mssante.test": false, patientA + "@patient.test": false, "dr@clinic.test": true, "dr@mss.clinic.test": true} {
		a, err := message.ParseAddress(to, false)
		if err != nil {
			t.Fatal(err)
		}
		err = h.g.Answer(t.Context(), portal.Answer{DepositID: "d", To: a, Text: "oui"})
		if (err == nil) != ok || len(h.clinic.To(to)) > 0 != ok {
			t.Errorf("%s: %v, %d", to, err, len(h.clinic.To(to)))
		}
	}
}

// A notice that is sent again to a member of the staff bears our mark as the first one did.
func TestInboundVaultAgain(t *testing.T) {
	h, _ := newGuarded(t, "")
	const from = patientA + "@patient.test"
	if rcpt, dot := h.receive(t, from, strings.Replace(mixed("", "GLYCEMIE\n"), "marie.durand@peer.mssante.test", from, 1), "phone@mss.clinic.test"); dot[:3] != "250" {
		t.Fatalf("%q %s", rcpt, dot)
	}
	d, err := gateway.OpenDeposits(t.Context(), h.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.List(t.Context(), gateway.DepositFilter{})
	if err != nil || len(all) != 1 || !all[0].Staff {
		t.Fatalf("%+v %v", all, err)
	}
	if err := d.Resend(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	ms := arrived(t, h.clinic, "phone@mss.clinic.test", 2)
	if m := mark(t, strings.ReplaceAll(string(ms[1].Data), "\r\n", "\n")); !strings.Contains(m, "v2; notice; verified=deposit "+all[0].ID) || strings.Contains(string(ms[1].Data), "GLYCEMIE") {
		t.Errorf("%s\n%s", m, ms[1].Data)
	}
}
