package gateway_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
)

// thief has what he stole, reads docs/formats/deposit-v1.md, and tries all that it tells.
type thief struct {
	t     *testing.T
	files string // folder with passerelle.db, its -wal, and deposits; "" where he has none
	key   *[32]byte
	mails []string // whole mailboxes
	logs  []string // of a proxy
}

// stolenRow is what the database has of one deposit.
type stolenRow struct {
	id                                           string
	header, resend, shortLink, phone, code1, cod []byte
}

// haul is what he got: content, link, phone, code, each at most once, sorted.
func (x thief) haul(guess string) string {
	x.t.Helper()
	key := seal.Key{} // who has no key tries what a careless program would have sealed with
	if x.key != nil {
		k, err := hkdf.Key(sha256.New, x.key[:], nil, "passerelle vault", 32)
		if err != nil {
			x.t.Fatal(err)
		}
		copy(key[:], k)
	}
	got := map[string]bool{}
	var links, shorts []string
	for _, text := range append(slices.Clone(x.mails), x.logs...) {
		for _, m := range regexp.MustCompile(`(?i)/r/([0-9a-z]{26})`).FindAllStringSubmatch(text, -1) {
			if s, ok := token.ParseLink(m[1]); ok {
				links = append(links, s)
			}
		}
		for _, m := range regexp.MustCompile(`(?i)\b[0-9a-z]{4} [0-9a-z]{4} [0-9a-z]{4} [0-9a-z]{4}\b`).FindAllString(text, -1) {
			if s, ok := token.ParseShort(m); ok {
				shorts = append(shorts, s)
			}
		}
	}
	rows := x.rows()
	for _, r := range rows {
		for _, record := range append(x.carved(), r.resend) {
			if b, err := seal.OpenValue(key, "resend", r.id, record); err == nil && len(b) >= token.LinkLength {
				links = append(links, string(b[:token.LinkLength]))
			}
		}
		for _, s := range shorts {
			var k seal.Key
			copy(k[:], seal.Mark(key, "short key", s))
			if b, err := seal.OpenValue(k, "short", r.id, r.shortLink); err == nil {
				links = append(links, string(b))
			}
		}
		if _, err := seal.OpenValue(key, "phone", r.id, r.phone); err == nil {
			got["phone"] = true
		}
		// With the key a million HMACs find a code of six digits; the test spares itself all but the right one.
		if mark := seal.Mark(key, "code", r.id, guess); guess != "" && (bytes.Equal(mark, r.code1) || bytes.Equal(mark, r.cod)) {
			got["code"] = true
		}
	}
	for _, link := range links {
		got["link"] = true
		for _, r := range rows {
			payload, err := os.ReadFile(filepath.Join(x.files, "deposits", r.id))
			if err != nil {
				continue
			}
			for _, k := range []seal.Key{key, {}} {
				lock, err := seal.NewLock(k, []byte(link), r.id)
				if err != nil {
					continue
				}
				if plain, size, err := seal.Open(lock, r.header, bytes.NewReader(payload), int64(len(payload))); err == nil {
					b, err := io.ReadAll(io.NewSectionReader(plain, 0, size))
					if err != nil || !bytes.Contains(b, []byte(secretText)) || !bytes.Contains(b, []byte(secretFile)) {
						x.t.Fatalf("a deposit opens, and is not what was sent: %v", err)
					}
					got["content"] = true
				}
			}
		}
	}
	var out []string
	for what := range got {
		out = append(out, what)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (x thief) rows() (out []stolenRow) {
	x.t.Helper()
	if x.files == "" {
		return nil
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(x.files, "passerelle.db"))
	if err != nil {
		x.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT id, header, resend, short_link, phone, code1, code2 FROM vault_deposits")
	if err != nil {
		x.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r stolenRow
		if err := rows.Scan(&r.id, &r.header, &r.resend, &r.shortLink, &r.phone, &r.code1, &r.cod); err != nil {
			x.t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil || len(out) == 0 {
		x.t.Fatalf("the stolen database has %d deposits: %v", len(out), err)
	}
	return out
}

// carved are all places of the raw files where a resend record may stand: SQLite may have left an old page in the file or its log.
func (x thief) carved() (out [][]byte) {
	if x.files == "" || x.key == nil {
		return nil
	}
	const size = 1 + 12 + token.LinkLength + token.ShortLength + 16
	for _, name := range []string{"passerelle.db", "passerelle.db-wal"} {
		b, _ := os.ReadFile(filepath.Join(x.files, name+".raw"))
		for i := 0; i+size <= len(b); i++ {
			if b[i] == 1 {
				out = append(out, b[i:i+size])
			}
		}
	}
	return out
}

// steal copies database and payloads as they lie there now.
func (l *lifeHouse) steal() string {
	l.t.Helper()
	from, to := filepath.Join(l.dir, "state"), l.t.TempDir()
	copyFile := func(from, to string) {
		l.t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil && !os.IsNotExist(err) {
			l.t.Fatal(err)
		}
	}
	for _, name := range []string{"passerelle.db", "passerelle.db-wal"} {
		copyFile(filepath.Join(from, name), filepath.Join(to, name))
		copyFile(filepath.Join(from, name), filepath.Join(to, name+".raw")) // his own SQLite tidies up the other one
	}
	if err := os.Mkdir(filepath.Join(to, "deposits"), 0o700); err != nil {
		l.t.Fatal(err)
	}
	payloads, err := filepath.Glob(filepath.Join(from, "deposits", "*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range payloads {
		copyFile(p, filepath.Join(to, "deposits", filepath.Base(p)))
	}
	return to
}

func (l *lifeHouse) serverKey() *[32]byte {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "state", "server.key"))
	if err != nil {
		l.t.Fatal(err)
	}
	var key [32]byte
	if n, err := hex.Decode(key[:], bytes.TrimSpace(text)); err != nil || n != 32 {
		l.t.Fatal("the server key is none")
	}
	return &key
}
