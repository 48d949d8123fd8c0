package openpgp

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// TestEncrypted: every message of ours, of both generations, is known for what it is; one that lacks an octet, or has one more, is none. Written
// anew, its armour holds the same packets.
func TestEncrypted(t *testing.T) {
	now := time.Now().Add(time.Minute) // behind every key made here
	for name, c := range map[string]*packet.Config{"v4": {}, "v6": {V6Keys: true, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeGCM}}} {
		keys, err := ParseKeys(public(t, entity(t, c)), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 191, 5000, 300_000} {
			sealed := seal(t, keys, nil, now, text(n))
			packets, err := io.ReadAll(decode(t, sealed))
			if err != nil {
				t.Fatal(err)
			}
			if err := Encrypted(bytes.NewReader(packets)); err != nil {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
			if Encrypted(bytes.NewReader(append(bytes.Clone(packets), 0xca))) == nil {
				t.Errorf("%s, %d bytes: an octet behind it is not seen", name, n)
			}
			for cut := range min(len(packets), 5000) {
				if Encrypted(bytes.NewReader(packets[:len(packets)-1-cut])) == nil {
					t.Fatalf("%s, %d bytes: without the last %d it counts as encrypted", name, n, cut+1)
				}
			}
			var again bytes.Buffer
			w, err := Armour(&again)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(packets)
			if err := w.Close(); err != nil || !bytes.Equal(again.Bytes(), sealed) {
				t.Errorf("%s, %d bytes: another armour: %v", name, n, err)
			}
		}
	}
}

func FuzzEncrypted(f *testing.F) {
	f.Add(append([]byte{0x84, 12, 3, 1, 2, 3, 4, 5, 6, 7, 8, 18, 0, 0, 0xd2, 60, 1}, make([]byte, 59)...))
	f.Add(append([]byte{0xc1, 12, 3, 1, 2, 3, 4, 5, 6, 7, 8, 18, 0, 0, 0xd2, 0xe6, 2}, make([]byte, 80)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		if Encrypted(bytes.NewReader(p)) == nil && p[0]&0x80 == 0 {
			t.Fatal("no packet counts as encrypted")
		}
	})
}
