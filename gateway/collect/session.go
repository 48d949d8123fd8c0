package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// What a server may say in answer to one command, in octets.
const (
	fewOctets  = 256 << 10
	listOctets = 1 << 20 // about 130 000 UIDs
)

// session is one IMAP session, logged in and with the folder open. One goroutine uses it.
type session struct {
	w        *wire
	c        *imapclient.Client
	patience time.Duration
	news     chan struct{} // the server told of a message, or of one less
	caps     imap.CapSet
	data     *imap.SelectData
}

// fault is an error with the step that a metric names.
type fault struct {
	step string
	err  error
}

func (f *fault) Error() string { return f.step + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// open connects, logs in and opens the folder. A token that was refused is evicted, and a fresh one is tried once.
func open(ctx context.Context, b *Box, patience time.Duration) (*session, error) {
	s, err := openOnce(ctx, b, patience)
	if no := (*errRefused)(nil); errors.As(err, &no) && no.token != "" && b.Evict != nil {
		b.Evict(no.token)
		s, err = openOnce(ctx, b, patience)
		if errors.As(err, &no) {
			b.Evict(no.token)
		}
	}
	return s, err
}

// Try logs in, opens the folder and ends.
func Try(ctx context.Context, b Box) error {
	s, err := open(ctx, &b, 2*time.Minute)
	if err != nil {
		return err
	}
	s.logout()
	return nil
}

func openOnce(ctx context.Context, b *Box, patience time.Duration) (_ *session, err error) {
	auth, token, err := b.client(ctx) // before the server waits for us
	if err != nil {
		return nil, &fault{"login", err}
	}
	s := &session{patience: patience, news: make(chan struct{}, 1)}
	if err := s.connect(ctx, b); err != nil {
		return nil, &fault{"connect", err}
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.c.State() != imap.ConnStateNotAuthenticated { // PREAUTH: nobody has said whose mailbox it is
		return nil, &fault{"login", errors.New("the server lets us in without asking whose mailbox it is to be")}
	}
	w := &watched{Client: auth}
	if err := s.do(ctx, fewOctets, func() error { return s.c.Authenticate(w) }); err != nil {
		if no := (*imap.Error)(nil); w.challenged || errors.As(err, &no) {
			err = &errRefused{token, hideText(err)}
		}
		return nil, &fault{"login", err}
	}
	err = s.do(ctx, fewOctets, func() (err error) {
		s.caps = s.c.Caps()
		s.data, err = s.c.Select(b.Folder, nil).Wait()
		return err
	})
	switch {
	case err != nil:
		return nil, &fault{"folder", hideText(err)}
	case s.caps == nil:
		return nil, &fault{"folder", errors.New("the server does not say what it can")}
	case s.data.UIDValidity == 0:
		return nil, &fault{"folder", errors.New("the server gives no UIDVALIDITY")}
	}
	return s, nil
}

// refusal is a server's NO or BAD without its words: they may name the mailbox or quote the token. Its code is a word of the standard.
type refusal struct{ kind, code string }

func (r *refusal) Error() string {
	if r.code == "" {
		return "the server says " + r.kind
	}
	return "the server says " + r.kind + " [" + r.code + "]"
}

// hideText makes a refusal of a server's answer.
func hideText(err error) error {
	if no := (*imap.Error)(nil); errors.As(err, &no) {
		r := &refusal{kind: string(no.Type)}
		if len(no.Code) < 30 {
			r.code = string(no.Code)
		}
		return r
	}
	return err
}

// connect ends with TLS, or not at all: a server without STARTTLS, or with a welcome before it, is left.
func (s *session) connect(ctx context.Context, b *Box) error {
	cfg, err := b.TLS()
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: min(s.patience, 30*time.Second)}
	raw, err := d.DialContext(ctx, "tcp", b.Addr)
	if err != nil {
		return err
	}
	s.w = &wire{Conn: raw}
	opts := &imapclient.Options{TLSConfig: cfg, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				s.told()
			}
		},
		Expunge: func(uint32) {},
	}}
	return s.do(ctx, fewOctets, func() error {
		if !b.Implicit {
			s.c, err = imapclient.NewStartTLS(s.w, opts)
			return err
		}
		tc := tls.Client(s.w, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			raw.Close()
			return err
		}
		s.c = imapclient.New(tc, opts)
		if err := s.c.WaitGreeting(); err != nil {
			s.close()
			return err
		}
		return nil
	})
}

func (s *session) told() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// do runs one command: of n octets of answer at most, 2 min between two of them and 10 min in all; ctx ends it with the session.
func (s *session) do(ctx context.Context, n int64, command func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.w.due(n, s.patience, 5*s.patience)
	defer s.w.rest()
	stop := context.AfterFunc(ctx, func() { s.w.Conn.Close() })
	defer stop()
	return command()
}

// close ends the session. The library's goroutine ends with its connection; it is waited for, but not for ever: a server can make it wait
// for a reader that has gone.
func (s *session) close() {
	s.w.Conn.Close()
	s.w.rest()
	if s.c == nil {
		return
	}
	select {
	case <-s.c.Closed():
	case <-time.After(5 * time.Second):
	}
}

// logout says goodbye.
func (s *session) logout() {
	s.do(context.Background(), fewOctets, func() error { return s.c.Logout().Wait() })
	s.close()
}

// idle waits for news, for d at most. Every return has ended IDLE, so it is never older than d.
func (s *session) idle(ctx context.Context, d time.Duration) error {
	if !s.caps.Has(imap.CapIdle) {
		select {
		case <-s.news:
		case <-ctx.Done():
		case <-time.After(d):
		}
		return ctx.Err()
	}
	var cmd *imapclient.IdleCommand
	err := s.do(ctx, fewOctets, func() (err error) {
		cmd, err = s.c.Idle()
		return err
	})
	if no := (*imap.Error)(nil); errors.As(err, &no) { // offered and refused: it is asked no more
		s.caps = maps.Clone(s.caps)
		delete(s.caps, imap.CapIdle)
		return s.idle(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("begin IDLE: %w", err)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.news:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.c.Closed():
		cmd.Close()
		return errors.New("the server hung up")
	}
	return s.do(context.WithoutCancel(ctx), fewOctets, func() error {
		if err := cmd.Close(); err != nil {
			return fmt.Errorf("end IDLE: %w", err)
		}
		return cmd.Wait()
	})
}

// held tells which of uids are in the folder.
func (s *session) held(ctx context.Context, uids []uint32) (map[uint32]bool, error) {
	set := imap.UIDSet{}
	for _, u := range uids {
		set.AddNum(imap.UID(u))
	}
	var data *imap.SearchData
	err := s.do(ctx, fewOctets, func() (err error) {
		data, err = s.c.UIDSearch(&imap.SearchCriteria{UID: []imap.UIDSet{set}}, nil).Wait()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask what is still there: %w", hideText(err))
	}
	there, _ := data.All.(imap.UIDSet)
	held := map[uint32]bool{}
	for _, u := range uids {
		held[u] = there.Contains(imap.UID(u))
	}
	return held, nil
}

// newer lists the UIDs from one on, in order; at most n of them.
func (s *session) newer(ctx context.Context, from uint32, n int) ([]uint32, error) {
	if from == 0 { // behind the last number
		return nil, nil
	}
	var data *imap.SearchData
	err := s.do(ctx, listOctets, func() (err error) {
		data, err = s.c.UIDSearch(&imap.SearchCriteria{UID: []imap.UIDSet{{{Start: imap.UID(from)}}}}, nil).Wait()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list new messages: %w", hideText(err))
	}
	set, _ := data.All.(imap.UIDSet)
	var out []uint32
	for _, r := range set { // never Nums: a server may name all numbers at once
		if r.Start == 0 || r.Stop < r.Start {
			return nil, errors.New("list new messages: the server names no numbers")
		}
		for u := uint64(max(r.Start, imap.UID(from))); u <= uint64(r.Stop); u++ { // RFC 3501 section 6.4.8: n:* names the last one, whatever n is
			if out = append(out, uint32(u)); len(out) == n {
				return out, nil
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
