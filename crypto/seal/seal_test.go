package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
)

func sealed(t *testing.T, key Key, secret, name string, plain []byte) (header, payload []byte) {
	t.Helper()
	lock, err := NewLock(key, []byte(secret), name)
	if err != nil {
		t.Fatal(err)
	}
	header, r, err := Split(lock, bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	if payload, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return header, payload
}

const secret = "0123456789abcdefghjkmnpqrs"

func TestSealedOpensFromTheMiddle(t *testing.T) {
	key := Key{1}
	for _, size := range []int{0, 1, 65535, 65536, 65537, 1 << 20} {
		plain := make([]byte, size)
		rand.Read(plain)
		header, payload := sealed(t, key, secret, "d1", plain)
		if size > 64 && (bytes.Contains(payload, plain[:32]) || bytes.Contains(header, plain[:32])) {
			t.Fatal("plain bytes in the sealed ones")
		}
		lock, _ := NewLock(key, []byte(secret), "d1")
		r, n, err := Open(lock, header, bytes.NewReader(payload), int64(len(payload)))
		if err != nil || n != int64(size) {
			t.Fatalf("size %d: %d, %v", size, n, err)
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, n))
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("size %d: differs, %v", size, err)
		}
		if size > 70000 {
			mid := make([]byte, 1000)
			if _, err := r.ReadAt(mid, 65000); err != nil || !bytes.Equal(mid, plain[65000:66000]) {
				t.Fatalf("middle differs, %v", err)
			}
		}
	}
}

func TestNeitherLinkNorServerKeyAloneOpens(t *testing.T) {
	header, payload := sealed(t, Key{1}, secret, "d1", []byte("compte rendu"))
	for name, l := range map[string]*Lock{
		"wrong server key": {Key{2}, []byte(secret), "d1"},
		"no server key":    {Key{}, []byte(secret), "d1"},
		"wrong secret":     {Key{1}, []byte("z123456789abcdefghjkmnpqrs"), "d1"},
		"other row":        {Key{1}, []byte(secret), "d2"},
		// moving octets between secret and key must not give the same lock
		"shifted": {Key{1}, []byte(secret + "\x01"), "d1"},
	} {
		if _, _, err := Open(l, header, bytes.NewReader(payload), int64(len(payload))); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangedBytesDoNotOpen(t *testing.T) {
	plain := bytes.Repeat([]byte("a"), 200_000)
	header, payload := sealed(t, Key{1}, secret, "d1", plain)
	otherHeader, _ := sealed(t, Key{1}, secret, "d1", plain)
	lock, _ := NewLock(Key{1}, []byte(secret), "d1")
	read := func(h, p []byte) error {
		r, n, err := Open(lock, h, bytes.NewReader(p), int64(len(p)))
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, n))
		}
		return err
	}
	if err := read(header, payload); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(payload)
	flipped[70_000] ^= 1
	for name, err := range map[string]error{
		"flipped":      read(header, flipped),
		"cut":          read(header, payload[:100_000]),
		"empty":        read(header, nil),
		"other header": read(otherHeader, payload),
		"no header":    read(nil, payload),
	} {
		if err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestReadErrorComesOut(t *testing.T) {
	lock, _ := NewLock(Key{1}, []byte(secret), "d1")
	_, r, err := Split(lock, io.MultiReader(bytes.NewReader(make([]byte, 100_000)), iotest.ErrReader(errors.New("gone"))))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		t.Fatal("a cut source sealed as whole")
	}
}

func TestShortSecretRefused(t *testing.T) {
	if _, err := NewLock(Key{}, []byte("short"), "d"); err == nil {
		t.Fatal("accepted")
	}
}

func TestValue(t *testing.T) {
	s, err := Value(Key{1}, "phone", "d1", []byte("+33612345678"))
	if err != nil || bytes.Contains(s, []byte("612345678")) {
		t.Fatalf("%v", err)
	}
	if p, err := OpenValue(Key{1}, "phone", "d1", s); err != nil || string(p) != "+33612345678" {
		t.Fatalf("%q, %v", p, err)
	}
	for name, f := range map[string]func() ([]byte, error){
		"key":     func() ([]byte, error) { return OpenValue(Key{2}, "phone", "d1", s) },
		"purpose": func() ([]byte, error) { return OpenValue(Key{1}, "resend", "d1", s) },
		"row":     func() ([]byte, error) { return OpenValue(Key{1}, "phone", "d2", s) },
		"cut":     func() ([]byte, error) { return OpenValue(Key{1}, "phone", "d1", s[:20]) },
		"nothing": func() ([]byte, error) { return OpenValue(Key{1}, "phone", "d1", nil) },
	} {
		if _, err := f(); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMarkSeparatesParts(t *testing.T) {
	if bytes.Equal(Mark(Key{1}, "code", "ab", "c"), Mark(Key{1}, "code", "a", "bc")) {
		t.Error("parts run together")
	}
	if bytes.Equal(Mark(Key{1}, "code", "a"), Mark(Key{1}, "link", "a")) || bytes.Equal(Mark(Key{1}, "code", "a"), Mark(Key{2}, "code", "a")) {
		t.Error("purpose or key without effect")
	}
}

func TestKeyNeverPrints(t *testing.T) {
	k := Key{0xab, 0xcd}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k.String()), k.LogValue().String()} {
		if bytes.Contains([]byte(s), []byte("171")) || bytes.Contains([]byte(s), []byte("abcd")) {
			t.Errorf("%q", s)
		}
	}
}

// FuzzOpen: hostile headers and payloads give errors, never a panic.
func FuzzOpen(f *testing.F) {
	lock, _ := NewLock(Key{1}, []byte(secret), "d1")
	h, r, _ := Split(lock, bytes.NewReader([]byte("x")))
	p, _ := io.ReadAll(r)
	f.Add(h, p)
	f.Fuzz(func(t *testing.T, h, p []byte) {
		if r, n, err := Open(lock, h, bytes.NewReader(p), int64(len(p))); err == nil {
			io.Copy(io.Discard, io.NewSectionReader(r, 0, n))
		}
	})
}
