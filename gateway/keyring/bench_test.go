package keyring

import (
	"fmt"
	"testing"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/store"
)

// BenchmarkFor is what a recipient costs on a message's way: remembered, and asked of the database for the first time.
func BenchmarkFor(b *testing.B) {
	r, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := r.db.Write(b.Context(), func(tx store.Tx) error {
		for i := range 20000 {
			k := Key{Address: fmt.Sprintf("p%d@dest.test", i), Kind: SMIME, Fingerprint: fmt.Sprintf("%064x", i), Data: make([]byte, 1500), Trust: Confirmed, Source: Import}
			if err := insert(tx, &k); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	r.gen = -1
	now := time.Now()
	b.Run("remembered", func(b *testing.B) {
		a := message.Address{Local: "p7", Domain: "dest.test"}
		for b.Loop() {
			if keys, err := r.For(b.Context(), a, now, Verified); err != nil || len(keys) != 1 {
				b.Fatal(len(keys), err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if keys, err := r.For(b.Context(), message.Address{Local: fmt.Sprint("p", i%20000), Domain: "dest.test"}, now, Verified); err != nil || len(keys) != 1 {
				b.Fatal(len(keys), err)
			}
		}
	})
	b.Run("none", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if keys, err := r.For(b.Context(), message.Address{Local: "x", Domain: fmt.Sprintf("d%d.test", i)}, now, Verified); err != nil || len(keys) != 0 {
				b.Fatal(len(keys), err)
			}
		}
	})
}
