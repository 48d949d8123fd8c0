package collect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"

	"passerelle/gateway/message"
)

var (
	errTooLarge = errors.New("larger than limits.message")
	errGone     = errors.New("the message has gone from its folder")
	errEmpty    = errors.New("the server has an empty message")
)

// item is a message as the list shows it.
type item struct {
	uid   uint32
	size  int64
	print Print
}

const (
	// piece is asked for at a time: what a server sends instead of a literal is buffered by the library, and this bounds it.
	piece      = 512 << 10
	maxPrinted = 8 << 10 // of the fields that tell a message: who wrote it may have made them endless
)

// items asks about messages; those that have gone meanwhile are left out. With an error it gives what came before.
func (s *session) items(ctx context.Context, uids []uint32) ([]item, error) {
	set := imap.UIDSet{}
	for _, u := range uids {
		set.AddNum(imap.UID(u))
	}
	var out []item
	err := s.do(ctx, fewOctets+int64(len(uids))*maxPrinted, func() error {
		cmd := s.c.Fetch(set, &imap.FetchOptions{UID: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{
			{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"RECEIVED", "MESSAGE-ID", "DATE"}, Peek: true, Partial: &imap.SectionPartial{Size: maxPrinted}}}})
		for m := cmd.Next(); m != nil; m = cmd.Next() {
			var it item
			var head []byte
			for d := m.Next(); d != nil; d = m.Next() {
				switch d := d.(type) {
				case imapFetchUID:
					it.uid = uint32(d.UID)
				case imapFetchSize:
					it.size = d.Size
				case imapFetchBody:
					if d.Literal != nil {
						lit := &literal{Reader: d.Literal, left: d.Literal.Size()}
						if head, _ = io.ReadAll(io.LimitReader(lit, maxPrinted)); lit.broken {
							return io.ErrUnexpectedEOF
						}
					}
				}
			}
			if slices.Contains(uids, it.uid) {
				it.print = printOf(head, it.size)
				out = append(out, it)
			}
		}
		return cmd.Close()
	})
	if err != nil {
		err = fmt.Errorf("ask about messages: %w", hideText(err))
	}
	slices.SortFunc(out, func(a, b item) int { return int(int64(a.uid) - int64(b.uid)) })
	return slices.CompactFunc(out, func(a, b item) bool { return a.uid == b.uid }), err
}

// literal tells whether it ended early. Then nothing more may be read, not even to throw it away: the library's goroutine reads again from
// the moment on that a literal gave an error.
type literal struct {
	io.Reader
	left   int64
	broken bool
}

func (l *literal) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.left -= int64(n)
	l.broken = l.broken || err != nil && l.left > 0
	return n, err
}

// printOf is what of a message stays the same when its folder is made anew: how it was delivered, octet for octet. A message without any of that
// has no print, for its size alone would take it for another.
func printOf(head []byte, size int64) (p Print) {
	if len(bytes.TrimSpace(head)) > 0 {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(head, uint64(size)))
		copy(p[:], sum[:])
	}
	return p
}

// fetch brings one message into out. The size that the list gave is a hint: the end is where the server says that there is no more. A server
// that says nothing of the message has lost it meanwhile (somebody deleted it), and what came until then is half a letter.
func (s *session) fetch(ctx context.Context, it item, max int64, out *message.BodyWriter) error {
	for {
		n, there, err := s.fetchPiece(ctx, it.uid, out)
		switch {
		case err != nil:
			return fmt.Errorf("fetch a message: %w", hideText(err))
		case !there:
			return errGone
		case out.Size() > max:
			return errTooLarge
		case n == 0 && out.Size() == 0:
			return errEmpty
		case n == 0, n < piece && out.Size() >= it.size:
			return nil
		}
	}
}

// fetchPiece appends the next octets; there is false where the server does not answer with any part of the message, be it empty.
func (s *session) fetchPiece(ctx context.Context, uid uint32, out *message.BodyWriter) (n int64, there bool, err error) {
	from := out.Size()
	err = s.do(ctx, piece+piece/8+fewOctets, func() error {
		cmd := s.c.Fetch(imap.UIDSetNum(imap.UID(uid)), &imap.FetchOptions{UID: true,
			BodySection: []*imap.FetchItemBodySection{{Peek: true, Partial: &imap.SectionPartial{Offset: from, Size: piece}}}})
		var fail error
		for m := cmd.Next(); m != nil; m = cmd.Next() {
			for d := m.Next(); d != nil; d = m.Next() {
				b, ok := d.(imapFetchBody)
				if !ok || b.Literal == nil || n > 0 || fail != nil {
					continue // the library throws away what is not read
				}
				if p := b.Section.Partial; b.Section.Specifier != "" || len(b.Section.Part) > 0 || p != nil && p.Offset != from || p == nil && from > 0 {
					continue // not what was asked for
				}
				if b.Literal.Size() > piece {
					fail = errFlood
					continue
				}
				there = true
				lit := &literal{Reader: b.Literal, left: b.Literal.Size()}
				if n, fail = io.Copy(out, lit); lit.broken {
					return errors.Join(io.ErrUnexpectedEOF, fail)
				}
			}
		}
		return errors.Join(fail, cmd.Close())
	})
	return n, there, err
}
