package protect

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passerelle/gateway/message"
)

const (
	marker     = "MARQUEUR-hémoglobine basse-7Q4Z"
	passphrase = "corail-menthe-sillon-7421"
)

var (
	ctx  = context.Background()
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func indexed(t testing.TB, s string) (*message.Body, *message.Index) {
	t.Helper()
	b := message.BytesBody([]byte(s))
	x, err := message.Parse(b, message.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return b, x
}

func options(t testing.TB) Options {
	return Options{Keep: []string{"X-Check-Id", "Bcc", "Received", "Content-Type"}, Clinic: "Clinique des Lilas", Phone: "01 23 45 67 89",
		Budget: message.NewBudget(64<<20, t.TempDir()), Now: time.Now}
}

var (
	envelope = &message.Envelope{Sender: message.Address{Local: "m", Domain: "clinic.test"}, ID: "id1", Helo: "mx", Client: "127.0.0.1"}
	dest     = message.Recipient{Address: message.Address{Local: "a", Domain: "dest.test"}}
)

// TestLeaksSees is the proof that the search finds what it is there to find.
func TestLeaksSees(t *testing.T) {
	for i := range 3 {
		if leaks([]byte(b64(strings.Repeat("y", 30+i)+marker+strings.Repeat("z", 90)))) == "" && leaks([]byte(crlf(b64(strings.Repeat("y", 30+i)+marker)))) == "" {
			t.Errorf("base64 at alignment %d is not seen", i)
		}
	}
	for _, s := range shapes() {
		if leaks([]byte(crlf(s.text))) == "" {
			t.Errorf("%s: nothing is seen in the original", s.name)
		}
	}
}

func TestProtectErrors(t *testing.T) {
	b, x := indexed(t, crlf(head+"\n"+strings.Repeat(marker, 10_000)))
	o := options(t)
	var e *Error
	if _, err := OpenPGP(ctx, envelope, b, x, dest, nil, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("no key: %v", err)
	}
	if _, err := OpenPGP(ctx, envelope, b, x, dest, [][]byte{[]byte("x")}, o); !errors.As(err, &e) || e.Step != "key" {
		t.Errorf("bad key: %v", err)
	}
	if _, err := ZIP(ctx, envelope, b, x, dest, "short", o); !errors.As(err, &e) || e.Step != "passphrase" || e.Passing {
		t.Errorf("short passphrase: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := ZIP(gone, envelope, b, x, dest, passphrase, o); !errors.As(err, &e) || !e.Passing {
		t.Errorf("cancelled: %v", err)
	}
	full := o
	full.Budget = message.NewBudget(10, filepath.Join(t.TempDir(), "gone"))
	if _, err := ZIP(ctx, envelope, b, x, dest, passphrase, full); !errors.As(err, &e) || e.Step != "room" || !e.Passing {
		t.Errorf("no room: %v", err)
	}
	if o.Budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", o.Budget.Used())
	}
	for _, err := range []error{e} {
		if strings.Contains(err.Error(), "MARQUEUR") {
			t.Errorf("the error tells content: %v", err)
		}
	}
}
