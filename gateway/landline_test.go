package gateway_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A landline cannot take an SMS, wherever it is known from: the letter is not held, and who wrote it is given the code to tell
// and the number to call, now and when the patient asks for another one. The number lies on no disk and in no log in clear.
func TestLandline(t *testing.T) {
	list := listFile(t, "adresse;phone\nlist@patient.test;01 23 45 67 89\n")
	l := newLife(t, "}\ndirectory: {list: \""+list+"\"")
	b := newBrowser(t)
	for to, tag := range map[string]string{"list@patient.test": "", "subject@patient.test": " [tel:01 23 45 67 89]"} {
		n := len(l.clinic.To("dr@clinic.test"))
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x"+tag, to), to); codes(got) != "250" {
			t.Fatal(got)
		}
		told := plainText(t, arrived(t, l.clinic, "dr@clinic.test", n+1)[n])
		if len(l.sink.To(to)) != 1 || !strings.Contains(told, "Donnez-lui ce code par téléphone") || len(l.sms.Messages()) != 0 || !strings.Contains(told, "Son numéro de téléphone : 01 23 45 67 89\r\n") {
			t.Errorf("%s: %d notices, its sender reads: %s", to, len(l.sink.To(to)), told)
		}
		link := linkIn(t, l.sink.To(to)[0].Data)
		if notice := plainText(t, l.sink.To(to)[0]); strings.Contains(notice, "67 89") {
			t.Errorf("%s: the notice has the number: %s", to, notice)
		}
		for range 5 {
			b.post(link, url.Values{"code": {"000000"}})
			l.turned.Add(int64(10 * time.Second))
		}
		if got, page := b.post(link+"/code", nil); got != 200 {
			t.Fatalf("another code: %d %s", got, page)
		}
		if again := plainText(t, arrived(t, l.clinic, "dr@clinic.test", n+2)[n+1]); !strings.Contains(again, "Son numéro de téléphone : 01 23 45 67 89\r\n") {
			t.Errorf("%s: of another code its sender reads: %s", to, again)
		}
	}
	l.later(2 * time.Minute)
	receipts := ""
	for range 1000 {
		if all := l.clinic.To("dr@clinic.test"); len(all) == 6 {
			receipts = plainText(t, all[4]) + plainText(t, all[5])
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if strings.Count(receipts, "en attente, code à donner par téléphone au 01 .. .. 67 89, jusqu'au") != 2 || strings.Contains(receipts, "envoyé") {
		t.Errorf("the receipts: %s", receipts)
	}
	l.stop()
	for _, number := range []string{"01 23 45 67 89", "0123456789", "33123456789"} {
		if strings.Contains(l.log.String(), number) {
			t.Errorf("%s stands in the log", number)
		}
		if err := filepath.WalkDir(filepath.Join(l.dir, "state"), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			p, err := os.ReadFile(path)
			if strings.Contains(string(p), number) {
				t.Errorf("%s lies in %s", number, filepath.Base(path))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
