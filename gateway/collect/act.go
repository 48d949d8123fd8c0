package collect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

type (
	imapFetchUID  = imapclient.FetchItemDataUID
	imapFetchSize = imapclient.FetchItemDataRFC822Size
	imapFetchBody = imapclient.FetchItemDataBodySection
)

const (
	collectedFlag imap.Flag = "$PasserelleCollected"
	refusedFlag   imap.Flag = "$PasserelleRefused"
)

// errCopied: a message is where it was to be moved, and stays where it was too. Asked again, the server would make another copy each time.
var errCopied = errors.New("copied, not moved")

// act does with a message on the server what its fate asks for. All of it may be done again.
func (s *session) act(ctx context.Context, b *Box, uid uint32, f Fate) error {
	switch {
	case f == Refused:
		return s.flag(ctx, uid, imap.FlagFlagged, refusedFlag)
	case b.After == Move:
		return s.move(ctx, uid, b.MoveTo)
	case b.After == Delete:
		return s.remove(ctx, uid)
	}
	return s.flag(ctx, uid, imap.FlagSeen, collectedFlag)
}

// flag adds a flag, and a word of our own where the folder takes those.
func (s *session) flag(ctx context.Context, uid uint32, f, own imap.Flag) error {
	flags := []imap.Flag{f}
	if p := s.data.PermanentFlags; slices.Contains(p, imap.FlagWildcard) || slices.Contains(p, own) {
		flags = append(flags, own)
	}
	err := s.do(ctx, fewOctets, func() error {
		return s.c.Store(imap.UIDSetNum(imap.UID(uid)), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: flags}, nil).Close()
	})
	if err != nil {
		return fmt.Errorf("flag a message: %w", hideText(err))
	}
	return nil
}

// move by MOVE (RFC 6851). Operators answer it with NO and "Internal error" at times, with or without having moved: what is still
// there is then copied and deleted.
func (s *session) move(ctx context.Context, uid uint32, to string) error {
	set := imap.UIDSetNum(imap.UID(uid))
	if s.caps.Has(imap.CapMove) {
		err := s.create(ctx, to, func() error { _, err := s.c.Move(set, to).Wait(); return err })
		if no := (*imap.Error)(nil); err == nil || !errors.As(err, &no) {
			return err
		}
		there, err := s.items(ctx, []uint32{uid})
		if err != nil || len(there) == 0 {
			return err
		}
	}
	if err := s.create(ctx, to, func() error { _, err := s.c.Copy(set, to).Wait(); return err }); err != nil {
		return fmt.Errorf("copy a message to its folder: %w", hideText(err))
	}
	err := s.remove(ctx, uid)
	if no := (*refusal)(nil); errors.As(err, &no) {
		return fmt.Errorf("%w: %w", errCopied, err)
	}
	return err
}

// create runs a command that needs a folder, and once more where the folder had to be made first (RFC 3501 section 6.4.7).
func (s *session) create(ctx context.Context, folder string, command func() error) error {
	err := s.do(ctx, fewOctets, command)
	if no := (*imap.Error)(nil); errors.As(err, &no) && no.Code == imap.ResponseCodeTryCreate {
		if err := s.do(ctx, fewOctets, func() error { return s.c.Create(folder, nil).Wait() }); err != nil {
			return fmt.Errorf("make the folder to move to: %w", hideText(err))
		}
		return s.do(ctx, fewOctets, command)
	}
	return err
}

// remove deletes one message, and never what other hands marked as deleted: without UID EXPUNGE (RFC 4315) it stays, marked.
func (s *session) remove(ctx context.Context, uid uint32) error {
	set := imap.UIDSetNum(imap.UID(uid))
	if err := s.flag(ctx, uid, imap.FlagDeleted, collectedFlag); err != nil {
		return err
	}
	if !s.caps.Has(imap.CapUIDPlus) {
		return nil
	}
	if err := s.do(ctx, fewOctets, func() error { return s.c.UIDExpunge(set).Close() }); err != nil {
		return fmt.Errorf("delete a message: %w", hideText(err))
	}
	return nil
}
