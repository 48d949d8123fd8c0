package gateway

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"slices"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// Preview gives every page of the portal and every mail about a deposit as the config makes them look, with made-up data and by the templates
// that serve; lang is "fr", "en", or "" for both. Names are paths below one folder; the first to open is index.html. Nothing is opened or sent.
func Preview(cfg *config.Config, lang string, write func(name string, content []byte) error) error {
	if cfg.Pickup.URL == "" {
		return fmt.Errorf("pickup.url is not set: there are no pages")
	}
	g := &Gateway{lasting: &lasting{}, cfg: cfg, log: slog.New(slog.DiscardHandler), now: time.Now}
	g.budget = message.NewBudget(int64(cfg.Limits.Memory), "")
	look, err := loadBrand(cfg)
	if err != nil {
		return err
	}
	if g.set, err = newSettings(cfg, [32]byte{}); err != nil {
		return err
	}
	set := g.vaultConfig(cfg, look)
	if g.vault, err = vault.Unopened(set); err != nil {
		return err
	}
	pages, err := g.newPortal(cfg, look, nil)
	if err != nil {
		return err
	}
	var names []string
	note := func(name string, content []byte) error {
		if strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".txt") {
			names = append(names, name)
		}
		return write(name, content)
	}
	for _, l := range []string{"fr", "en"} {
		if lang == "" || lang == l {
			if err := pages.Preview(l, note); err != nil {
				return err
			}
		}
	}
	for name, m := range g.madeUpMails() {
		if err := previewMail(name, m, note); err != nil {
			return fmt.Errorf("preview of mail %s: %w", name, err)
		}
	}
	if err := note("sms.txt", []byte(g.vault.CodeText("fr", "123456")+"\n\n"+g.vault.CodeText("en", "123456")+"\n")); err != nil {
		return err
	}
	return write("index.html", previewIndex(cfg.Clinic.Name, names))
}

// madeUpMails are all that tell of a deposit: each is French and English at once.
func (g *Gateway) madeUpMails() map[string]func() (*message.Body, error) {
	address := func(s string) message.Address { a, _ := message.ParseAddress(s, false); return a }
	now := g.now()
	from := vault.NoticeRequest{From: g.set.noticeFrom}
	dep := func(m vault.Mode) *vault.Deposit {
		return &vault.Deposit{ID: strings.Repeat("0", 32), Link: g.vault.PublicURL() + "/r/exemple", Short: "k7qf2m9x4trc8wpa", Code: "123456", Phone: "+33123456789", Mode: m, Created: now,
			Expires: now.Add(time.Duration(g.cfg.Pickup.Expiry)), Sender: g.set.noticeFrom, Recipient: address("a.exemple@patient.example"), Sending: strings.Repeat("0", 32)}
	}
	end := dep("").Expires
	status := func(name string, s vault.Status) vault.Status {
		s.Recipient, s.Created, s.Expires = address(name+".exemple@patient.example"), now, end
		return s
	}
	receipt := func(what vault.Summary, all ...vault.Status) func() (*message.Body, error) {
		return func() (*message.Body, error) {
			return g.receiptMail(&vault.Sending{ID: strings.Repeat("0", 32), Sender: g.set.noticeFrom, Created: now, Deposits: all}, what), nil
		}
	}
	const phone = "06 .. .. 56 78"
	waits := []vault.Status{status("a", vault.Status{State: vault.Waiting, Mode: vault.BySMS, MaskedPhone: phone}), status("b", vault.Status{State: vault.Waiting, Mode: vault.BySMS, MaskedPhone: phone, CodeAt: now}),
		status("c", vault.Status{State: vault.Waiting, Mode: vault.BySender}), status("g", vault.Status{State: vault.Waiting, Mode: vault.BySender, MaskedPhone: "01 .. .. 56 78"}),
		status("d", vault.Status{State: vault.Waiting, Mode: vault.BySecret}), status("e", vault.Status{State: vault.Waiting, Mode: vault.ByEmail}),
		status("f", vault.Status{State: vault.Waiting, Mode: vault.ByOIDC})}
	var opened []vault.Status
	for _, level := range []string{"sms", "sender", "secret", "email", "oidc/exemple"} {
		opened = append(opened, status(level[:2], vault.Status{State: vault.Opened, Opened: now, Level: level}))
	}
	opened[0].Answers = 1
	ended := append(slices.Clone(opened), status("x", vault.Status{State: vault.Expired, Ended: now}), status("y", vault.Status{State: vault.Revoked, Ended: now}),
		status("z", vault.Status{State: vault.Expired, Opened: now, Level: "sms", Ended: now}), status("w", vault.Status{State: vault.Revoked, Opened: now, Level: "sms", Ended: now}))
	held, lost := status("h", vault.Status{State: vault.Held}), status("i", vault.Status{State: vault.Destroyed, Ended: now})
	out := map[string]func() (*message.Body, error){
		"courriel-code":          func() (*message.Body, error) { return g.vault.CodeForSender(dep(vault.BySender), from) },
		"courriel-code-courriel": func() (*message.Body, error) { return g.vault.CodeForRecipient(dep(vault.ByEmail)) },
		"courriel-avis-expediteur-et-mot": func() (*message.Body, error) {
			d := dep(vault.BySMS)
			d.Face = vault.Face{Name: "Dr Exemple", Word: "mimosa"}
			return g.vault.Notice(d, from)
		},
		"courriel-suivi":           receipt(vault.SentTo, waits...),
		"courriel-suivi-non-lu":    receipt(vault.NotOpened, waits...),
		"courriel-suivi-lu":        receipt(vault.AllSettled, opened...),
		"courriel-suivi-fin":       receipt(vault.AllSettled, ended...),
		"courriel-suivi-non-remis": receipt(vault.AllSettled, opened[0], lost),
		"courriel-numero-inconnu":  receipt(vault.SentTo, waits[0], held, status("j", held)),
	}
	for name, mode := range map[string]vault.Mode{"sms": vault.BySMS, "telephone": vault.BySender, "phrase": vault.BySecret, "courriel": vault.ByEmail, "identite": vault.ByOIDC} {
		for kind, r := range map[string]vault.NoticeRequest{"avis": from, "rappel": {From: from.From, Again: true}, "avis-personnel": {From: from.From, Staff: true}} {
			if kind == "avis-personnel" && mode != vault.BySMS && mode != vault.BySecret { // the staff's proof is a telephone or a phrase
				continue
			}
			out["courriel-"+kind+"-"+name] = func() (*message.Body, error) { return g.vault.Notice(dep(mode), r) }
		}
	}
	return out
}

// previewMail writes a mail as it leaves, and each of its parts as a reader sees it.
func previewMail(name string, build func() (*message.Body, error), write func(string, []byte) error) error {
	body, err := build()
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body.Section(0, body.Size()))
	if err != nil {
		return err
	}
	if err := write(name+".eml", raw); err != nil {
		return err
	}
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(kind, "multipart/") {
		text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil {
			return err
		}
		return write(name+".txt", text)
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; { // it decodes quoted-printable itself
		part, err := parts.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		ending := ".txt"
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			ending = ".html"
		}
		if err := write(name+ending, text); err != nil {
			return err
		}
	}
}

func previewIndex(clinic string, names []string) []byte {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html lang=\"fr\"><head><meta charset=\"utf-8\"><title>" + html.EscapeString(clinic) + "</title></head><body>\n<h1>" + html.EscapeString(clinic) + "</h1>\n<ul>\n")
	for _, n := range slices.Sorted(slices.Values(names)) {
		b.WriteString("<li><a href=\"" + html.EscapeString(n) + "\">" + html.EscapeString(n) + "</a></li>\n")
	}
	b.WriteString("</ul></body></html>\n")
	return []byte(b.String())
}
