package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"time"

	"passerelle/gateway/gatewaytest"
)

// scene is one message to one or more recipients.
type scene struct {
	subject string
	to      []string
}

// shown is one line of the table.
type shown struct {
	to, way, why, arrived string
	err                   error
}

// expected is who gets what, and the check of its arrival.
type expected struct {
	to, way, why string
	arrived      func(ctx context.Context, subject string) (string, error)
}

func (w *world) scenes() []scene {
	return []scene{
		{"Resultats de Mme Petit", []string{doctor}},
		{"Sortie de Mme Petit", []string{hospital}},
		{"Votre compte rendu", []string{patientMS}},
		{"Avis demande", []string{colleague}},
		{"Prelevements du 23", []string{zipper}},
		{"Votre rendez-vous", []string{patient}},
		{"Staff pluridisciplinaire", []string{doctor, hospital, colleague, zipper, patient}},
		{"Relance", []string{stranger}},
	}
}

func (w *world) expected() map[string]expected {
	atPeer := func(to string) func(context.Context, string) (string, error) {
		return func(ctx context.Context, subject string) (string, error) { return w.checkTrust(ctx, to, subject) }
	}
	return map[string]expected{
		doctor:    {doctor, "trust", "verified in the directory, domain in the trust space", atPeer(doctor)},
		hospital:  {hospital, "trust", "verified organisation", atPeer(hospital)},
		patientMS: {patientMS, "trust", "Mon espace sante, the INS key is right", atPeer(patientMS)},
		colleague: {colleague, "encrypt openpgp", "not in the directory, a key is in the clinic's list", w.checkOpenPGP},
		zipper:    {zipper, "encrypt zip", "the clinic's list asks for ZIP", w.checkZIP},
		patient:   {patient, "pickup", "a patient without keys, mobile known", w.checkPickup},
		stranger:  {stranger, "refuse", "opposes being written to", nil},
	}
}

// play sends one message and checks each recipient's copy.
func (w *world) play(ctx context.Context, n int, s scene) []shown {
	replies, err := w.lmtp(s)
	var out []shown
	for i, to := range s.to {
		x := w.expected()[to]
		r := shown{to: to, way: x.way, why: x.why, err: err}
		switch {
		case err != nil:
		case x.arrived == nil:
			if r.arrived = replies[i]; !strings.HasPrefix(replies[i], "550 ") {
				r.err = fmt.Errorf("want a refusal, got %s", replies[i])
			}
		case !strings.HasPrefix(replies[i], "250 "):
			r.err = fmt.Errorf("the gateway answered %s", replies[i])
		default:
			r.arrived, r.err = x.arrived(ctx, s.subject)
		}
		out = append(out, r)
	}
	return out
}

// lmtp hands a message in as Postfix would and gives one reply per recipient.
func (w *world) lmtp(s scene) ([]string, error) {
	conn, err := net.DialTimeout("tcp", w.lmtpAddr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := textproto.NewConn(conn)
	step := func(code int, format string, args ...any) error {
		if format != "" {
			if err := c.PrintfLine(format, args...); err != nil {
				return err
			}
		}
		_, _, err := c.ReadResponse(code)
		return err
	}
	if err := step(220, ""); err != nil {
		return nil, err
	}
	if err := step(250, "LHLO postfix.clinique.example"); err != nil {
		return nil, err
	}
	if err := step(250, "MAIL FROM:<%s>", sender); err != nil {
		return nil, err
	}
	for _, to := range s.to {
		if err := step(250, "RCPT TO:<%s>", to); err != nil {
			return nil, err
		}
	}
	if err := step(354, "DATA"); err != nil {
		return nil, err
	}
	d := c.DotWriter()
	if _, err := d.Write(w.message(s)); err != nil {
		return nil, err
	}
	if err := d.Close(); err != nil {
		return nil, err
	}
	var replies []string
	for range s.to {
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			return nil, err
		}
		replies = append(replies, fmt.Sprint(code, " ", text))
	}
	return replies, step(221, "QUIT")
}

func (w *world) message(s scene) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Dr Martin <%s>\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%x@clinique.example>\r\nMIME-Version: 1.0\r\n",
		sender, strings.Join(s.to, ",\r\n "), s.subject, time.Now().Format(time.RFC1123Z), sha256.Sum256([]byte(s.subject+time.Now().String())))
	m := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n", m.Boundary())
	p, _ := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/plain; charset=utf-8"}})
	fmt.Fprintf(p, "Bonjour,\r\n\r\nvoici le compte rendu (%s).\r\n\r\nDr Martin\r\n", s.subject)
	p, _ = m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/pdf"}, "Content-Transfer-Encoding": {"base64"},
		"Content-Disposition": {`attachment; filename="compte-rendu.pdf"`}})
	enc := base64.StdEncoding.EncodeToString(w.attachment)
	for len(enc) > 76 {
		fmt.Fprintf(p, "%s\r\n", enc[:76])
		enc = enc[76:]
	}
	fmt.Fprintf(p, "%s\r\n", enc)
	m.Close()
	return b.Bytes()
}

// newest waits for a message to a recipient that the check accepts.
func newest(ctx context.Context, h *gatewaytest.NextHop, to string, ok func(gatewaytest.Message) bool) (found gatewaytest.Message, err error) {
	_, err = h.WaitFor(ctx, func([]gatewaytest.Message) bool {
		for _, m := range h.To(to) {
			if ok(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found, err
}

// checkTrust: arrived at the peer under our certificate, and the attachment is the same bytes.
func (w *world) checkTrust(ctx context.Context, to, subject string) (string, error) {
	m, err := newest(ctx, w.peer, to, func(m gatewaytest.Message) bool { return bytes.Contains(m.Data, []byte("Subject: "+subject)) })
	if err != nil {
		return "", fmt.Errorf("nothing arrived: %w", err)
	}
	if m.TLS == nil || len(m.TLS.PeerCertificates) == 0 {
		return "", fmt.Errorf("it came without mutual TLS")
	}
	if err := w.sameAttachment(m.Data); err != nil {
		return "", err
	}
	return "unchanged, over mutual TLS as " + m.TLS.PeerCertificates[0].Subject.CommonName, nil
}

// sameAttachment finds the PDF in a clear message and compares its hash.
func (w *world) sameAttachment(raw []byte) error {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	typ, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("read Content-Type: %w", err)
	}
	return w.findAttachment(typ, params["boundary"], msg.Body)
}

func (w *world) findAttachment(typ, boundary string, body io.Reader) error {
	if !strings.HasPrefix(typ, "multipart/") {
		return fmt.Errorf("no parts in %s", typ)
	}
	r := multipart.NewReader(body, boundary)
	for {
		p, err := r.NextPart()
		if err != nil {
			return fmt.Errorf("the attachment is not there")
		}
		typ, params, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		switch {
		case typ == "application/pdf":
			got, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
			if err != nil {
				return err
			}
			return w.compare(got)
		case strings.HasPrefix(typ, "multipart/"):
			if w.findAttachment(typ, params["boundary"], p) == nil {
				return nil
			}
		}
	}
}

func (w *world) compare(got []byte) error {
	if sha256.Sum256(got) != sha256.Sum256(w.attachment) {
		return fmt.Errorf("the attachment has other bytes")
	}
	return nil
}

// hidden fails if the clear words of a message can be read in what left.
func (w *world) hidden(raw []byte, subject string) error {
	for _, s := range []string{subject, "voici le compte rendu", "compte-rendu.pdf", base64.StdEncoding.EncodeToString(w.attachment)[:60]} {
		if bytes.Contains(raw, []byte(s)) {
			return fmt.Errorf("%q can be read in what left", s)
		}
	}
	return nil
}
