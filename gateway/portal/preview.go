package portal

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/openid"
	"passerelle/gateway/vault"
)

// sample is one page of the preview: a template with made-up data, and once more with each thing that may have gone right or wrong.
type sample struct {
	name, template string
	page           page
	notes          []string // keys of done.* and fault.*
}

// madeUp are all pages, as of a deposit that nobody made.
func (p *Portal) madeUp() []sample {
	now := p.cfg.Vault.Now()
	end := now.Add(30 * 24 * time.Hour)
	view := func(m vault.Mode, sent bool) *vault.View {
		return &vault.View{ID: "exemple", Mode: m, MaskedPhone: "06 .. .. 56 78", Expires: end, CodeSent: sent, Refusable: true}
	}
	link, sending := p.base+"/r/exemple", p.base+"/s/exemple"
	content := &vault.Content{ID: "exemple", Expires: end, Manifest: &vault.Manifest{Subject: "Votre rendez-vous du 3 décembre", From: "Dr Exemple", Date: now,
		Text: "Bonjour,\n\nVoici un message inventé, pour voir la page.\n\nDr Exemple", HTML: "<p>Bonjour</p>",
		Files: []vault.Entry{{Name: "Convocation.pdf", Type: "application/pdf", Size: 184_320}, {Name: "Radiographie du genou.dcm", Type: "application/dicom", Size: 24_800_000}}}}
	status := func(n byte, to string, s vault.Status) vault.Status {
		s.ID, s.Created, s.Expires = string([]byte{n}), now.Add(-48*time.Hour), end
		s.Recipient, _ = message.ParseAddress(to, false)
		return s
	}
	list := &vault.Sending{ID: "exemple", Created: now.Add(-48 * time.Hour), Deposits: []vault.Status{
		status('a', "a.exemple@patient.example", vault.Status{State: vault.Held}),
		status('b', "b.exemple@patient.example", vault.Status{State: vault.Waiting, Mode: vault.BySMS, MaskedPhone: "06 .. .. 56 78", Linked: true}),
		status('e', "e.exemple@patient.example", vault.Status{State: vault.Waiting, Mode: vault.BySecret}),
		status('c', "c.exemple@patient.example", vault.Status{State: vault.Opened, Mode: vault.BySMS, Level: "sms", Opened: now, Closed: true}),
		status('d', "d.exemple@patient.example", vault.Status{State: vault.Expired, Ended: now})}}
	phrase := func(m vault.Mode) *vault.PhraseView {
		return &vault.PhraseView{Mode: m, MaskedPhone: "06 .. .. 56 78", Expires: end, AskSender: true}
	}
	face := view(vault.BySMS, false)
	face.Face = vault.Face{Name: "Dr Exemple", Word: "mimosa"}
	providers := []*openid.Provider{{Config: openid.Config{Name: "exemple", Label: "FranceConnect"}}}
	closed := *content
	closed.Closed = true
	codes := []string{"fault.wrong", "fault.slow", "fault.locked", "fault.limited", "fault.notsent", "fault.session"}
	return []sample{
		{"retrait", "typed", page{Path: p.base + "/retrait"}, []string{"fault.typed"}},
		{"lien-sms-1-demander", "link", page{Path: link, View: view(vault.BySMS, false)}, []string{"fault.void", "fault.many", "fault.spent"}},
		{"lien-sms-2-entrer", "link", page{Path: link, View: view(vault.BySMS, true)}, append([]string{"done.code"}, codes...)},
		{"lien-telephone", "link", page{Path: link, View: view(vault.BySender, true)}, nil},
		{"lien-telephone-perime", "link", page{Path: link, View: view(vault.BySender, false)}, nil},
		{"lien-expediteur-et-mot", "link", page{Path: link, View: face}, nil},
		{"lien-telephone-verrouille", "link", page{Path: link, View: view(vault.BySender, true), Fault: "fault.locked", Minutes: 15}, nil},
		{"lien-sms-reponse-gardee", "link", page{Path: link, View: view(vault.BySMS, true), Fault: "fault.session", Text: "Merci docteur."}, nil},
		{"lien-sms-verrouille", "link", page{Path: link, View: view(vault.BySMS, true), Fault: "fault.locked", Minutes: 300}, nil},
		{"lien-courriel-1-demander", "link", page{Path: link, View: view(vault.ByEmail, false)}, nil},
		{"lien-courriel-2-entrer", "link", page{Path: link, View: view(vault.ByEmail, true)}, nil},
		{"lien-identite", "link", page{Path: link, View: view(vault.ByOIDC, false), Providers: providers}, []string{"fault.id.away", "fault.id.again", "fault.id.refused", "fault.id.other"}},
		{"lien-sms-ou-identite", "link", page{Path: link, View: view(vault.BySMS, true), Providers: providers}, nil},
		{"lien-phrase", "link", page{Path: link, View: view(vault.BySecret, true)}, []string{"fault.phrase", "fault.locked"}},
		{"lien-phrase-et-mot", "link", page{Path: link, View: view(vault.BySecret, true), ByHand: true}, []string{"fault.trap", "fault.word"}},
		{"message", "message", page{Path: link, Title: content.Subject, Content: content, Frame: true, CanAnswer: true, PerDay: p.cfg.PerDay, Open: -1, Shown: map[int]string{0: "application/pdf"}}, []string{"fault.active", "done.answer", "fault.answer", "fault.size", "fault.empty", "fault.daily", "fault.refused", "fault.infected", "fault.unchecked"}},
		{"message-clos", "message", page{Path: link, Title: content.Subject, Content: &closed, Text: "Merci", Open: -1}, []string{"fault.closed"}},
		{"message-document", "message", page{Path: link, Title: content.Subject, Content: &closed, Shown: map[int]string{0: "application/pdf"}}, nil},
		{"message-imprimer", "print", page{Path: link, Content: content, Frame: true}, nil},
		{"expediteur", "sender", page{Path: sending, Sending: list, CanResend: true, stands: p.cfg.Vault.Stands},
			[]string{"done.revoked", "done.resent", "done.unlocked", "done.completed", "done.closed", "done.reopened", "fault.confirm", "fault.phone", "fault.mobile", "fault.often", "fault.blocked", "fault.resend", "fault.ended"}},
		{"mot-de-passe-sms", "phrase", page{Path: p.base + "/m/exemple", Phrase: phrase(vault.BySMS)}, []string{"phr.done.sms", "phr.limited", "phr.notsent", "phr.gone"}},
		{"mot-de-passe-telephone", "phrase", page{Path: p.base + "/m/exemple", Phrase: phrase(vault.BySender)}, []string{"phr.done.sender"}},
		{"mot-de-passe-convenu", "phrase", page{Path: p.base + "/m/exemple", Phrase: phrase(vault.BySecret)}, nil},
		{"mot-de-passe-personne", "phrase", page{Path: p.base + "/m/exemple", Phrase: &vault.PhraseView{Mode: vault.BySender, Expires: end}}, nil},
		{"erreur", "error", page{Fault: "gone"}, nil},
		{"erreur-reponse-gardee", "error", page{Fault: "gone", Text: "Merci docteur."}, nil},
		{"erreur-panne", "error", page{Fault: "broken"}, nil},
		{"erreur-panne-reponse-gardee", "error", page{Fault: "broken", Text: "Merci docteur."}, nil},
		{"erreur-attendre", "error", page{Fault: "busy"}, nil},
		{"erreur-autre-site", "error", page{Fault: "cross"}, nil},
		{"erreur-identite", "error", page{Fault: "astray"}, nil},
		{"aide-sms", "help", page{Path: link + "/aide", Link: link, View: view(vault.BySMS, true)}, nil},
		{"aide-telephone", "help", page{Path: link + "/aide", Link: link, View: view(vault.BySender, true)}, nil},
		{"aide-phrase", "help", page{Path: link + "/aide", Link: link, View: view(vault.BySecret, true)}, nil},
		{"aide-courriel", "help", page{Path: link + "/aide", Link: link, View: view(vault.ByEmail, true)}, nil},
		{"aide-identite", "help", page{Path: link + "/aide", Link: link, View: view(vault.ByOIDC, false)}, nil},
		{"pas-moi", "notme", page{Path: link + "/pas-moi", Link: link, View: view(vault.BySMS, false)}, []string{"done.notme", "fault.word", "fault.refusal"}},
		{"bloquer", "block", page{Path: link + "/bloquer", Link: link, View: view(vault.BySMS, false)}, []string{"done.unblock"}},
		{"bloque", "block", page{Path: link + "/bloquer", Link: link, View: face, Blocked: true}, []string{"done.block"}},
		{"accessibilite", "accessibilite", page{Path: p.base + "/accessibilite"}, nil},
		{"mentions", "mentions", page{Path: p.base + "/mentions"}, nil},
	}
}

// onePage is a PDF of one empty page.
const onePage = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"

// Preview gives every page in a language with made-up data, and what they load, by the templates that serve. Names are paths below a folder.
func (p *Portal) Preview(lang string, write func(name string, content []byte) error) error {
	q := *p
	q.base = "."
	if err := write(q.sheet.Path[1:], []byte(branded(style, q.cfg.Brand))); err != nil {
		return err
	}
	if q.logo != "" {
		if err := write(q.logo[1:], q.cfg.Brand.Logo); err != nil {
			return err
		}
	}
	if err := write("r/exemple/v/0", []byte(onePage)); err != nil {
		return err
	}
	one := func(name string, s sample) error {
		r, err := http.NewRequest(http.MethodGet, "/?lang="+lang, nil)
		if err != nil {
			return err
		}
		w := &kept{header: http.Header{}}
		q.render(w, r, http.StatusOK, s.template, s.page)
		if w.code != http.StatusOK {
			return fmt.Errorf("preview %s: the page fails", name)
		}
		return write(lang+"-"+name+".html", w.Bytes())
	}
	for _, s := range q.madeUp() {
		if err := one(s.name, s); err != nil {
			return err
		}
		for _, note := range s.notes {
			with := s
			if with.page.Minutes = 5; strings.HasPrefix(note, "done.") || strings.HasPrefix(note, "phr.done.") {
				with.page.Done = note
			} else {
				with.page.Fault = note
			}
			if err := one(s.name+"-"+note, with); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept is a ResponseWriter that keeps the page.
type kept struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (k *kept) Header() http.Header  { return k.header }
func (k *kept) WriteHeader(code int) { k.code = code }
