package openpgp

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// TestCostly: how many operations with keys, and how many sums over the content, a stranger's message can ask for is bounded.
func TestCostly(t *testing.T) {
	now := time.Now()
	ours, other := entity(t, &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 3072}), entity(t, nil)
	sub := ours.Subkeys[0].PublicKey
	sealed := func(recipients int, content []byte) []byte {
		t.Helper()
		var b bytes.Buffer
		session := make([]byte, 32)
		one := bytes.Buffer{}

		if err := packet.SerializeEncryptedKeyAEADwithHiddenOption(&one, sub, packet.CipherAES256, false, bytes.Repeat([]byte{7}, 32), true, config(now)); err != nil {
			t.Fatal(err)
		}
		for range recipients {
			b.Write(one.Bytes()) // for us, to all that can be seen, and not the key of this content
		}
		w, err := packet.SerializeSymmetricallyEncrypted(&b, packet.CipherAES256, false, packet.CipherSuite{}, session, config(now))
		if err != nil {
			t.Fatal(err)
		}
		w.Write(content)
		w.Close()
		return b.Bytes()
	}
	for _, n := range []int{1, 1500, 20_000} {
		from := time.Now()
		_, err := Decrypt(io.Discard, bytes.NewReader(sealed(n, []byte("x"))), []*PrivateKey{{ours}}, nil, 1<<20, now)
		if took := time.Since(from); took > 3*time.Second {
			t.Errorf("%d recipients took %s", n, took)
		}
		if !errors.Is(err, ErrNotForUs) && !errors.Is(err, ErrUnopened) {
			t.Errorf("%d recipients: %v", n, err)
		}
	}

	content := bytes.Repeat([]byte("ligne\r\n"), 1<<20)
	var one, many bytes.Buffer
	if err := openpgp.DetachSign(&one, []*openpgp.Entity{other}, bytes.NewReader(content), config(now)); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		many.Write(one.Bytes())
	}
	known := []*Key{{other}}
	if s, err := Verify(bytes.NewReader(content), bytes.NewReader(one.Bytes()), known, now); err != nil || s.Verdict != Good {
		t.Errorf("one signature: %+v, %v", s, err)
	}
	from := time.Now()
	if s, err := Verify(bytes.NewReader(content), bytes.NewReader(many.Bytes()), known, now); err != nil || s.Verdict != Bad || time.Since(from) > 3*time.Second {
		t.Errorf("300 signatures, %s: %+v, %v", time.Since(from), s, err)
	}
}
