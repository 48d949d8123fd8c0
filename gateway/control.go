package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// controlSocket is where a running gateway takes what its operator's commands ask for. It lies in the state folder, whose files are the
// service's alone: who may open it may do all that the service may.
const controlSocket = "control.sock"

// Deposit is what may be known of one.
type Deposit = vault.Status

// DepositFilter says which deposits are listed.
type DepositFilter = vault.Filter

// ErrNoDeposit: no deposit has that id.
var ErrNoDeposit = errors.New("no such deposit")

// ErrNoVault: pickup.url is not set.
var ErrNoVault = errors.New("pickup.url is not set: there are no deposits")

// Deposits works on deposits by way of the gateway that runs, or on the state folder itself where none does. Close ends it.
type Deposits struct {
	house *Gateway // nil where another process has the folder
	http  *http.Client
}

// OpenDeposits finds the gateway that runs with this config, or opens its state folder. Only the folder's owner opens it: the files that another
// one makes there, root too, the service could not read.
func OpenDeposits(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Deposits, error) {
	if cfg.Pickup.URL == "" {
		return nil, ErrNoVault
	}
	d := &Deposits{http: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialControl(ctx, cfg.StateDir)
	}}}}
	if c, err := dialControl(ctx, cfg.StateDir); err == nil {
		return d, c.Close()
	}
	if err := ownedByUs(cfg.StateDir); err != nil {
		return nil, fmt.Errorf("no gateway runs: %w", err)
	}
	g, err := Open(ctx, cfg, log)
	var locked *store.LockedError
	if !errors.As(err, &locked) {
		return &Deposits{house: g}, err
	}
	return d, nil
}

func dialControl(ctx context.Context, dir string) (net.Conn, error) {
	at, end, err := socketIn(dir)
	if err != nil {
		return nil, err
	}
	defer end()
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", at(controlSocket))
}

// socketIn gives names for sockets in a folder, good until end: the folder's own name may be longer than a socket's may be (unix(7): 108 octets).
func socketIn(dir string) (at func(name string) string, end func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	return func(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name) }, f.Close, nil
}

// ownedByUs: the folder is this user's, or not there yet. What another one makes there, root too, the service cannot read, and does not start.
func ownedByUs(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if s, ok := fi.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		id := strconv.Itoa(int(s.Uid))
		owner, err := user.LookupId(id)
		if err != nil {
			return fmt.Errorf("%s belongs to user %s: run it as that user", dir, id)
		}
		return fmt.Errorf("%s belongs to %s: run it as that user (runuser -u %s -- passerelle ...)", dir, owner.Username, owner.Username)
	}
	return nil
}

// Close gives the folder back.
func (d *Deposits) Close() error {
	if d.house != nil {
		return d.house.Close()
	}
	return nil
}

// The deeds of one deposit.
const (
	deedRevoke  = "revoke"
	deedResend  = "resend"
	deedExtend  = "extend"
	deedUnblock = "unblock"
)

// List gives deposits, the newest first.
func (d *Deposits) List(ctx context.Context, f DepositFilter) (out []Deposit, err error) {
	return out, d.ask(ctx, "list", f, &out)
}

// Show gives one deposit.
func (d *Deposits) Show(ctx context.Context, id string) (out Deposit, err error) {
	return out, d.ask(ctx, "show", deed{ID: id}, &out)
}

// Revoke destroys the content for good.
func (d *Deposits) Revoke(ctx context.Context, id string) error {
	return d.ask(ctx, deedRevoke, deed{ID: id}, nil)
}

// Resend sends the notice again.
func (d *Deposits) Resend(ctx context.Context, id string) error {
	return d.ask(ctx, deedResend, deed{ID: id}, nil)
}

// Unblock lets the deposit's sender write to its recipient again.
func (d *Deposits) Unblock(ctx context.Context, id string) error {
	return d.ask(ctx, deedUnblock, deed{ID: id}, nil)
}

// UnblockPair does that for who has no deposit left, as after pickup.keep: a block outlives them, and nothing new is made under it.
func (d *Deposits) UnblockPair(ctx context.Context, sender, recipient string) error {
	return d.ask(ctx, deedUnblock, deed{Sender: sender, Recipient: recipient}, nil)
}

// Extend gives a later end.
func (d *Deposits) Extend(ctx context.Context, id string, end time.Time) error {
	return d.ask(ctx, deedExtend, deed{ID: id, End: end}, nil)
}

// deed is a question about one deposit, or about two addresses where ID is "".
type deed struct {
	ID                string
	End               time.Time
	Sender, Recipient string
}

// ask goes to the house itself, or over its socket: the question and the answer are the same JSON.
func (d *Deposits) ask(ctx context.Context, what string, question, answer any) error {
	q, err := json.Marshal(question)
	if err != nil {
		return err
	}
	var b []byte
	if d.house != nil {
		b, err = d.house.control(ctx, what, q)
	} else {
		b, err = d.overSocket(ctx, what, q)
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(b, answer)
}

func (d *Deposits) overSocket(ctx context.Context, what string, question []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway/deposits/"+what, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Do(r)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return nil, fmt.Errorf("ask the running gateway over %s in state_dir: %w", controlSocket, u.Err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxControl))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, ErrNoDeposit
	case resp.StatusCode != http.StatusOK:
		return nil, errors.New(string(bytes.TrimSpace(b)))
	}
	return b, nil
}

const maxControl = 16 << 20

// control does what an operator asks for.
func (g *Gateway) control(ctx context.Context, what string, question []byte) ([]byte, error) {
	v := g.vault
	if v == nil {
		return nil, ErrNoVault
	}
	if what == "list" {
		var f DepositFilter
		if err := json.Unmarshal(question, &f); err != nil {
			return nil, err
		}
		f.Limit = min(f.Limit, 10000)
		list, err := v.List(ctx, f)
		if err != nil {
			return nil, err
		}
		return json.Marshal(list)
	}
	var d deed
	if err := json.Unmarshal(question, &d); err != nil {
		return nil, err
	}
	if what == deedUnblock && d.ID == "" {
		return nil, g.unblockPair(ctx, d)
	}
	s, err := v.Status(ctx, d.ID)
	if vault.Why(err) == vault.NotFound {
		return nil, ErrNoDeposit
	}
	if err == nil {
		err = possible(what, s)
	}
	if err == nil {
		switch what {
		case "show":
		case deedRevoke:
			err = v.Revoke(ctx, d.ID)
		case deedResend:
			if s.Linked {
				err = g.Resend(ctx, d.ID)
			} else if err = v.Unlock(ctx, d.ID); err == nil {
				err = errors.New("the notice cannot be sent again, its recipient alone knows the link (pickup.strict, or after the last reminder); what wrong codes had locked is open again")
			}
		case deedUnblock:
			err = v.Unblock(ctx, s.Sender, s.Recipient)
		case deedExtend:
			err = v.Extend(ctx, d.ID, d.End)
		default:
			err = fmt.Errorf("%q is nothing that can be done with a deposit", what)
		}
	}
	if err != nil {
		return nil, err
	}
	if what != "show" {
		g.log.Info("deposit: done as the operator asked", "what", what, "deposit", d.ID)
	}
	return json.Marshal(s)
}

func (g *Gateway) unblockPair(ctx context.Context, d deed) error {
	var pair [2]message.Address
	for i, s := range []string{d.Sender, d.Recipient} {
		a, err := message.ParseAddress(s, true)
		if err == nil && a.IsNull() {
			err = errors.New("it is empty")
		}
		if err != nil {
			return fmt.Errorf("address %q: %w", s, err)
		}
		pair[i] = a
	}
	blocked, err := g.vault.Blocked(ctx, pair[0], pair[1])
	if err == nil && !blocked {
		err = fmt.Errorf("%s has not blocked %s", pair[1], pair[0])
	}
	if err == nil {
		err = g.vault.Unblock(ctx, pair[0], pair[1])
	}
	if err == nil {
		g.log.Info("a block was taken back as the operator asked")
	}
	return err
}

// possible says in the operator's words why a deed cannot be done to a deposit as it stands.
func possible(what string, s Deposit) error {
	switch {
	case what == "show", what == deedUnblock:
	case !s.Ended.IsZero():
		return fmt.Errorf("deposit %s is %s since %s: its content is gone", s.ID, s.State, s.Ended.Format(time.RFC3339))
	case s.State == vault.Held && what != deedRevoke:
		return fmt.Errorf("deposit %s is held: it waits for a telephone number, which its sender gives on his page", s.ID)
	}
	return nil
}

// listenControl makes the socket, the owner's from its first moment: it is made in a folder that nobody else enters, and moved. (umask is the
// whole process's: what others made meanwhile would have had it too.) A socket that a dead process left is taken away: the folder's lock says
// that nobody else serves.
func listenControl(dir string) (l net.Listener, err error) {
	closed, err := os.MkdirTemp(dir, controlSocket+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(closed)) }()
	at, end, err := socketIn(closed)
	if err != nil {
		return nil, err
	}
	defer end()
	if l, err = net.Listen("unix", at(controlSocket)); err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it will have another name
	made := filepath.Join(closed, controlSocket)
	if err := os.Chmod(made, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := os.Rename(made, filepath.Join(dir, controlSocket)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// controlDoor takes the operator's commands while the gateway runs. Without it mail goes on: what fails here is logged.
func (g *Gateway) controlDoor() (door, error) {
	l, err := listenControl(g.cfg.StateDir)
	if err != nil {
		return door{}, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /deposits/{what}", func(w http.ResponseWriter, r *http.Request) {
		question, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		var b []byte
		if err == nil {
			b, err = g.current().control(r.Context(), r.PathValue("what"), question)
		}
		switch {
		case errors.Is(err, ErrNoDeposit):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusConflict)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Write(b)
		}
	})
	d := webDoor("control", l, nil, mux, 2*time.Minute, g.log)
	serve := d.serve
	d.serve = func(ctx context.Context) error {
		defer os.Remove(filepath.Join(g.cfg.StateDir, controlSocket)) // still under the folder's lock
		if err := serve(ctx); err != nil {
			g.log.Error("the operator's commands do not reach the gateway before its next start", "err", err)
		}
		return nil
	}
	return d, nil
}
