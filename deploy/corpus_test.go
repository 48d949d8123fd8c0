package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/emersion/go-smtp"

	"passerelle/gateway/gatewaytest"
)

// TestCorpus sends every shape of mail by every route: what is to leave unchanged does, and what is to leave sealed tells nothing.
func TestCorpus(t *testing.T) {
	bin := binary(t)
	for _, route := range []string{"plain", "trust", "smime", "openpgp", "pickup"} {
		t.Run(route, func(t *testing.T) { throughRoute(t, bin, route) })
	}
}

func throughRoute(t *testing.T, bin, route string) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sentence := benchMark()
	letters := gatewaytest.Corpus(sentence)
	if len(letters) < 500 {
		t.Fatalf("%d letters, want 500", len(letters))
	}
	sink, env := benchSink(t, route, gatewaytest.Options{})
	var opens func(*testing.T, []byte) []byte // what the recipient gets out
	switch route {
	case "openpgp":
		var home string
		home, env = gpgHome(t)
		opens = func(t *testing.T, data []byte) []byte { return decrypt(t, home, data) }
	case "smime":
		var holder *gatewaytest.Correspondent
		holder, env = smimeHolder(t)
		opens = func(t *testing.T, data []byte) []byte {
			clear, err := holder.Open(data)
			if err != nil {
				t.Error(err)
			}
			return clear
		}
	}
	b := benchStart(t, bin, route, sink.Addr(), env)
	refused := sendCorpus(t, ctx, b, letters)
	if len(refused) > len(letters)/20 {
		t.Errorf("%d of %d letters were refused: %v", len(refused), len(letters), refused)
	}
	s := newSearcher(sentence)
	for i, l := range letters {
		got := sink.To(fmt.Sprintf("c%d@dest.test", i))
		if _, no := refused[i]; no != (len(got) == 0) || len(got) > 1 {
			t.Errorf("%s came %d times, refused: %v", l.Name, len(got), no)
			continue
		}
		if len(got) == 0 {
			continue
		}
		_, body, _ := bytes.Cut(append([]byte("\r\n"), l.Bytes...), []byte("\r\n\r\n")) // one has no header at all
		switch data := got[0].Data; route {
		case "plain", "trust": // trace headers stand above
			if !bytes.HasSuffix(data, l.Bytes) {
				t.Errorf("%s was changed on its way", l.Name)
			}
		default:
			if way := s.in(data); way != "" {
				t.Errorf("%s can be read %s in what left", l.Name, way)
			}
			if opens != nil && i%10 == 0 && !bytes.Contains(opens(t, data), body) {
				t.Errorf("%s: what its recipient opens is not what was sent", l.Name)
			}
		}
	}
	t.Logf("%d letters, %d refused: %v", len(letters), len(refused), refused)
}

// sendCorpus gives each letter a recipient of its own. What comes back is the 5xx of those that were refused.
func sendCorpus(t *testing.T, ctx context.Context, b *benchGateway, letters []gatewaytest.Letter) map[int]string {
	t.Helper()
	refused := map[int]string{}
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			s, err := b.dial(c%2 == 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for i := int(next.Add(1) - 1); i < len(letters) && ctx.Err() == nil; i = int(next.Add(1) - 1) {
				err := s.letter(letters[i].Bytes, fmt.Sprintf("c%d@dest.test", i))
				var reply *smtp.SMTPError
				switch {
				case err == nil:
				case errors.As(err, &reply) && reply.Code/100 == 5:
					mu.Lock()
					refused[i] = letters[i].Name + ": " + reply.Message
					mu.Unlock()
				default:
					t.Errorf("%s: %v", letters[i].Name, err)
					if reply == nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return refused
}

// letter sends what may have dots at the start of lines.
func (s benchSession) letter(letter []byte, to string) error {
	if err := s.Mail("staff@clinic.test", &smtp.MailOptions{Body: smtp.Body8BitMIME}); err != nil {
		return err
	}
	if err := s.Rcpt(to, nil); err != nil {
		return err
	}
	w, err := s.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(letter); err != nil {
		return err
	}
	return w.Close()
}

// smimeHolder has the secret key of *@dest.test, whose certificate stands in a list of the clinic.
func smimeHolder(t *testing.T) (holder *gatewaytest.Correspondent, env []string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("install the Debian package openssl")
	}
	dir := t.TempDir()
	holder, err := gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "all@dest.test"})
	benchCheck(t, err)
	list := filepath.Join(dir, "list.csv")
	benchCheck(t, os.WriteFile(list, []byte("address;certificate\n@dest.test;"+filepath.Base(holder.CertFile)+"\n"), 0o600))
	return holder, []string{"SMIME_LIST=" + list}
}

// gpgHome is a folder in which GnuPG has the secret key of *@dest.test.
func gpgHome(t *testing.T) (home string, env []string) {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatal("install the Debian package gnupg")
	}
	key, err := openpgp.NewEntity("Colleague", "", "r0@dest.test", nil)
	benchCheck(t, err)
	var public, secret bytes.Buffer
	a, err := armor.Encode(&public, "PGP PUBLIC KEY BLOCK", nil)
	benchCheck(t, err)
	benchCheck(t, errors.Join(key.Serialize(a), a.Close(), key.SerializePrivate(&secret, nil)))
	if home, err = os.MkdirTemp("", "gpg"); err != nil { // the agent's socket wants a short path
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
		os.RemoveAll(home)
	})
	gpg(t, home, secret.Bytes(), "--import")
	file := filepath.Join(home, "public.asc")
	benchCheck(t, os.WriteFile(file, public.Bytes(), 0o600))
	return home, []string{"PGP_KEY=" + file}
}

func gpg(t *testing.T, home string, in []byte, args ...string) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "gpg", append([]string{"--homedir", home, "--batch", "--quiet"}, args...)...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gpg %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return out
}

// decrypt opens a PGP/MIME message as its recipient does.
func decrypt(t *testing.T, home string, data []byte) []byte {
	t.Helper()
	from, to := bytes.Index(data, []byte("-----BEGIN PGP MESSAGE-----")), bytes.Index(data, []byte("-----END PGP MESSAGE-----"))
	if from < 0 || to < from {
		t.Errorf("no PGP message in %.300q", data)
		return nil
	}
	return gpg(t, home, data[from:to+len("-----END PGP MESSAGE-----\n")], "--decrypt")
}
