package vault

import (
	"context"
	"encoding/hex"
	"fmt"
	"regexp"

	"passerelle/crypto/seal"
	"passerelle/crypto/token"
	"passerelle/gateway/message"
)

// noticeID is the name of a notice in what answers it: <deposit.mac.random@domain>. It opens nothing.
var noticeID = regexp.MustCompile(`<([0-9a-f]{32})\.([0-9a-f]{16})\.[a-z0-9]+@`)

// maxNamed bounds how many names of an answer's References are looked at.
const maxNamed = 20

func (v *Vault) noticeMAC(id string) string {
	return hex.EncodeToString(seal.Mark(v.cfg.Key, "notice", id)[:8])
}

// MailedFor gives the deposit whose notice a mail answers: the one that its In-Reply-To and References name, else the newest of a writer. nil
// where there is none with content left.
func (v *Vault) MailedFor(ctx context.Context, references string, writers ...message.Address) (*Status, error) {
	look := func(where string, arg string) (*Status, error) {
		found, err := v.statuses(ctx, where+` = ? AND state IN (?, ?) AND staff = 0 AND expires > ? ORDER BY created DESC LIMIT 1`, arg, Waiting, Opened, ms(v.cfg.Now()))
		if err != nil {
			return nil, fmt.Errorf("find what a mail answers: %w", err)
		}
		if len(found) == 0 {
			return nil, nil
		}
		return &found[0], nil
	}
	for _, m := range noticeID.FindAllStringSubmatch(references, maxNamed) {
		if !token.Equal([]byte(m[2]), []byte(v.noticeMAC(m[1]))) {
			continue
		}
		if s, err := look("id", m[1]); s != nil || err != nil {
			return s, err
		}
	}
	for _, w := range writers {
		if w.IsNull() {
			continue
		}
		if s, err := look("recipient", w.String()); s != nil || err != nil {
			return s, err
		}
	}
	return nil, nil
}
