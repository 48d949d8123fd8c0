package keyring

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// seekWorld is a wkdWorld whose answers go into a ring.
type seekWorld struct {
	*wkdWorld
	ring *Ring
}

func newSeekWorld(t *testing.T, hosts ...string) *seekWorld {
	t.Helper()
	w := &seekWorld{wkdWorld: newWKDWorld(t, hosts...)}
	var err error
	w.ring, err = Open(t.Context(), Config{Dir: t.TempDir(), Every: time.Nanosecond, Now: w.cfg.Now})
	must(t, err)
	t.Cleanup(func() { w.ring.Close() })
	return w
}

func (w *seekWorld) finder(t *testing.T) *Finder {
	t.Helper()
	f, err := NewFinder(t.Context(), w.ring, w.open(t), Discovered)
	must(t, err)
	return f
}

func (w *seekWorld) keys(t *testing.T, a message.Address) (fingerprints []string) {
	t.Helper()
	keys, err := w.ring.For(t.Context(), a, w.now, Discovered)
	must(t, err)
	for _, k := range keys {
		if k.Source != WKD || k.Trust != Discovered || k.Kind != OpenPGP {
			t.Errorf("found as %s, %s, %s", k.Kind, k.Source, k.Trust)
		}
		fingerprints = append(fingerprints, k.Fingerprint)
	}
	return fingerprints
}

// TestSeek: an address is asked about once a day, found or not, by whichever gateway; what its domain shows no more is not sealed to any more.
func TestSeek(t *testing.T) {
	w := newSeekWorld(t, "d.test")
	w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	a, b := at(t, "a@d.test"), at(t, "b@d.test")
	f := w.finder(t)
	asks := func(what string, x message.Address, want int, keys int) {
		t.Helper()
		if err := f.Seek(t.Context(), x); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := len(w.Asked()); got != want {
			t.Errorf("%s: asked %d times, want %d", what, got, want)
		}
		if got := w.keys(t, x); len(got) != keys {
			t.Errorf("%s: keys %q, want %d", what, got, keys)
		}
	}
	asks("first", a, 1, 1)
	asks("second", a, 0, 1)
	asks("nobody", b, 1, 0)
	asks("nobody again", b, 0, 0)
	f = w.finder(t)
	asks("after a restart", a, 0, 1)
	w.now = w.now.Add(25 * time.Hour)
	asks("a day later", a, 1, 1)
	asks("nobody a day later", b, 1, 0)

	first := w.keys(t, a)[0]
	w.run(t, "--quick-generate-key", "--yes", "New <a@d.test>", "future-default", "default", "never")
	_, second, _ := strings.Cut(string(w.run(t, "--with-colons", "--list-keys", "New")), "fpr:::::::::")
	second = strings.ToLower(second[:40])
	hash, err := w.gpg.Hash("a@d.test")
	must(t, err)
	w.Publish("d.test", hash, "d.test", w.run(t, "--export", second))
	w.now = w.now.Add(25 * time.Hour)
	asks("another key", a, 1, 1)
	if got := w.keys(t, a)[0]; got != second || got == first {
		t.Errorf("key %s, want %s in the place of %s", got, second, first)
	}
	if _, err := w.ring.SetTrust(t.Context(), second, "", Confirmed, "by telephone"); err != nil {
		t.Fatal(err)
	}
	w.Publish("d.test", hash, "d.test", nil)
	w.now = w.now.Add(25 * time.Hour)
	must(t, f.Seek(t.Context(), a))
	if keys, err := w.ring.For(t.Context(), a, w.now, Confirmed); err != nil || len(keys) != 1 {
		t.Errorf("the operator's word is gone with the directory's: %d keys, %v", len(keys), err)
	}
}

// TestSeekRevoked: what a directory shows as revoked is not sealed to, whoever brought it.
func TestSeekRevoked(t *testing.T) {
	w := newSeekWorld(t, "d.test")
	raw := w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	a := at(t, "a@d.test")
	if _, err := w.ring.Put(t.Context(), Key{Address: "a@d.test", Kind: OpenPGP, Data: raw, Source: Import, Trust: Confirmed, Fixed: true}); err != nil {
		t.Fatal(err)
	}
	w.Answer(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(revoke(t, w.wkdWorld, "a@d.test")) })
	must(t, w.finder(t).Seek(t.Context(), a))
	keys, err := w.ring.Under(t.Context(), "a@d.test")
	if err != nil || len(keys) != 1 || keys[0].Revoked == "" {
		t.Errorf("got %+v, %v", keys, err)
	}
	if keys, _ := w.ring.For(t.Context(), a, w.now, Seen); len(keys) != 0 {
		t.Errorf("a revoked key is sealed to: %s", keys[0].Fingerprint)
	}
}

// revoke revokes a key of the home by the certificate that GnuPG made with it, and exports it.
func revoke(t *testing.T, w *wkdWorld, address string) []byte {
	t.Helper()
	must(t, w.gpg.Revoke(address))
	return w.run(t, "--export", address)
}

// TestSeekUnasked: who could not be asked is asked again, and what was found before counts meanwhile.
func TestSeekUnasked(t *testing.T) {
	w := newSeekWorld(t, "d.test", "e.test")
	w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	a, b := at(t, "a@d.test"), at(t, "b@e.test")
	f := w.finder(t)
	must(t, f.Seek(t.Context(), a))
	w.now = w.now.Add(25 * time.Hour)
	w.Answer(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) })
	if err := f.Seek(t.Context(), a); err != nil || len(w.keys(t, a)) != 1 {
		t.Errorf("server down, key known: %v", err)
	}
	if err := f.Seek(t.Context(), b); !errors.As(err, new(*Unasked)) {
		t.Errorf("server down, nothing known: %v", err)
	}
	w.Answer(nil)
	w.Asked()
	if err := f.Seek(t.Context(), b); !errors.As(err, new(*Unasked)) || len(w.Asked()) != 0 {
		t.Errorf("a failed server is not left alone: %v", err)
	}
	w.now = w.now.Add(2 * time.Minute)
	if err := f.Seek(t.Context(), b); err != nil || len(w.Asked()) != 1 {
		t.Errorf("not asked again: %v", err)
	}
}

// TestSeekTogether: many letters to one address make one question; one who goes away takes nobody's answer with him.
func TestSeekTogether(t *testing.T) {
	w := newSeekWorld(t, "d.test")
	key := w.key(t, "d.test", "Dr A <a@d.test>", "a@d.test")
	in, on := make(chan struct{}, 9), make(chan struct{})
	w.Answer(func(rw http.ResponseWriter, r *http.Request) {
		in <- struct{}{}
		select {
		case <-on:
		case <-r.Context().Done():
		}
		rw.Write(key)
	})
	f, a := w.finder(t), at(t, "a@d.test")
	gone, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := f.Seek(gone, a); !errors.As(err, new(*Unasked)) {
			t.Errorf("who went away: %v", err)
		}
	})
	<-in
	for range 10 {
		all.Go(func() {
			if err := f.Seek(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
	}
	leave()
	<-in
	close(on)
	all.Wait()
	if n := len(w.Asked()); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}
