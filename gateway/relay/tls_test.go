package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"testing"
)

func TestTLSModes(t *testing.T) {
	cert, pool := certificate(t)
	good := func(s *session) {
		s.greet("STARTTLS", "REQUIRETLS")
		if s.startTLS(cert) != nil {
			return
		}
		s.hello("PIPELINING", "REQUIRETLS")
		s.take(1)
		s.quit()
	}
	clear := func(s *session) { s.greet("STARTTLS"); s.take(1); s.quit() }
	strip := func(s *session) { s.greet("X"); s.gone() }
	stripTaken := func(s *session) { s.greet("X"); s.take(1); s.quit() }
	refuse := func(s *session) { s.greet("STARTTLS"); s.want("STARTTLS"); s.send("454 4.7.0 no"); s.gone() }
	refuseTaken := func(s *session) {
		s.greet("STARTTLS")
		s.want("STARTTLS")
		s.send("502 no")
		s.take(1)
		s.quit()
	}
	inject := func(s *session) {
		s.greet("STARTTLS")
		s.want("STARTTLS")
		io.WriteString(s.conn, "220 go\r\n250 injected\r\n")
		s.gone()
	}
	garbage := func(s *session) {
		s.greet("STARTTLS")
		s.want("STARTTLS")
		s.send("220 go")
		io.CopyN(io.Discard, s.br, 100)
		s.send("no TLS here")
	}
	verify := TLS{Mode: Verify, Config: &tls.Config{RootCAs: pool}}
	for name, c := range map[string]struct {
		scripts []func(*session)
		tls     TLS
		require bool
		want    string
	}{
		"verify":                     {[]func(*session){good}, verify, true, "accepted"},
		"verify, check passes":       {[]func(*session){good}, TLS{Mode: Verify, Config: verify.Config, Check: func(cs tls.ConnectionState) error { return nil }}, false, "accepted"},
		"verify, check fails":        {[]func(*session){func(s *session) { s.greet("STARTTLS"); s.startTLS(cert); s.gone() }}, TLS{Mode: Verify, Config: verify.Config, Check: func(cs tls.ConnectionState) error { return errCheck }}, false, "451 4.7.5 starttls"},
		"verify, unknown root":       {[]func(*session){good}, TLS{Mode: Verify}, false, "451 4.7.5 starttls"},
		"verify, wrong name":         {[]func(*session){good}, TLS{Mode: Verify, Config: &tls.Config{RootCAs: pool, ServerName: "other.test"}}, false, "451 4.7.5 starttls"},
		"verify nothing":             {nil, TLS{Mode: Verify, Config: &tls.Config{InsecureSkipVerify: true}}, false, "451 4.3.5 connect"},
		"verify, stripped":           {[]func(*session){strip}, verify, false, "451 4.7.4 starttls"},
		"verify, refused":            {[]func(*session){refuse}, verify, false, "451 4.7.4 starttls"},
		"verify, injected":           {[]func(*session){inject}, verify, false, "451 4.7.5 starttls"},
		"encrypt":                    {[]func(*session){good}, TLS{Mode: Encrypt}, false, "accepted"},
		"encrypt, REQUIRETLS":        {[]func(*session){func(s *session) { s.greet("STARTTLS"); s.startTLS(cert); s.hello("REQUIRETLS"); s.quit() }}, TLS{Mode: Encrypt}, true, "550 5.7.30 mail"},
		"encrypt, stripped":          {[]func(*session){strip}, TLS{Mode: Encrypt}, false, "451 4.7.4 starttls"},
		"encrypt, no TLS in it":      {[]func(*session){garbage}, TLS{Mode: Encrypt}, false, "451 4.7.5 starttls"},
		"opportunistic":              {[]func(*session){good}, TLS{Mode: Opportunistic}, false, "accepted"},
		"opportunistic, stripped":    {[]func(*session){stripTaken}, TLS{Mode: Opportunistic}, false, "accepted"},
		"opportunistic, refused":     {[]func(*session){refuseTaken}, TLS{Mode: Opportunistic}, false, "accepted"},
		"opportunistic, no TLS":      {[]func(*session){garbage, clear}, TLS{Mode: Opportunistic}, false, "accepted"},
		"opportunistic, injected":    {[]func(*session){inject}, TLS{Mode: Opportunistic}, false, "451 4.7.5 starttls"},
		"none":                       {[]func(*session){clear}, TLS{}, false, "accepted"},
		"verify, closed at STARTTLS": {[]func(*session){func(s *session) { s.greet("STARTTLS"); s.want("STARTTLS") }}, verify, false, "451 4.4.2 starttls"},
	} {
		t.Run(name, func(t *testing.T) {
			hop := hopTo(peer(t, c.scripts...))
			hop.TLS = c.tls
			l := letter(t, "x", "a@d.test")
			l.RequireTLS = c.require
			res := newRelay(t, Config{}).Send(background(), hop, l)
			wantCodes(t, res, c.want)
			if name == "verify" && (res[0].Peer.Subject != "O=PEER,CN=peer.test" && res[0].Peer.Subject != "CN=peer.test,O=PEER" || len(res[0].Peer.Fingerprint) != 64 || res[0].Peer.TLSVersion != "TLS 1.3" || res[0].Peer.Cipher == "") {
				t.Errorf("peer %+v", res[0].Peer)
			}
			if name == "verify, check fails" && !errors.Is(res[0].Err, errCheck) {
				t.Errorf("got %v", res[0].Err)
			}
		})
	}
}

// TestCheckIsAskedAgain: a certificate that is revoked meanwhile ends the kept connection.
func TestCheckIsAskedAgain(t *testing.T) {
	cert, _ := certificate(t)
	var verdict error
	first := func(s *session) { s.greet("STARTTLS"); s.startTLS(cert); s.hello("X"); s.take(1); s.quit() }
	hop := hopTo(peer(t, first, func(s *session) { s.greet("STARTTLS"); s.startTLS(cert); s.gone() }))
	hop.TLS = TLS{Mode: Encrypt, Check: func(tls.ConnectionState) error { return verdict }}
	r := newRelay(t, Config{})
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "accepted")
	verdict = errCheck
	wantCodes(t, r.Send(background(), hop, letter(t, "x", "a@d.test")), "451 4.7.5 starttls")
}
