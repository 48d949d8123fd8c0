package protect

import (
	"crypto/x509"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"passerelle/gateway/gatewaytest"
	"passerelle/gateway/message"
)

func correspondent(t testing.TB, o gatewaytest.CorrespondentOptions) *gatewaytest.Correspondent {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the Debian package openssl")
	}
	o.Address = "a@dest.test"
	c, err := gatewaytest.NewCorrespondent(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSMIMEErrors(t *testing.T) {
	b, x := indexed(t, crlf(head+"\n"+strings.Repeat(marker, 10_000)))
	o := options(t)
	var e *Error
	if _, err := SMIME(ctx, envelope, b, x, dest, nil, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("no certificate: %v", err)
	}
	c := correspondent(t, gatewaytest.CorrespondentOptions{EC: true, NotAfter: noon.AddDate(-1, 0, 0)})
	if _, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{c.Certificate}, o); !errors.As(err, &e) || e.Step != "key" || e.Passing {
		t.Errorf("ran out: %v", err)
	}
	full := o
	full.Budget, full.Now = message.NewBudget(10, filepath.Join(t.TempDir(), "gone")), nil
	good := correspondent(t, gatewaytest.CorrespondentOptions{EC: true})
	if _, err := SMIME(ctx, envelope, b, x, dest, []*x509.Certificate{good.Certificate}, full); !errors.As(err, &e) || e.Step != "room" || !e.Passing {
		t.Errorf("no room: %v", err)
	}
	if o.Budget.Used() != 0 {
		t.Errorf("%d bytes of the budget never came back", o.Budget.Used())
	}
}
