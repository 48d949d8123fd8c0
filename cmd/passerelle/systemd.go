package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"passerelle/gateway"
)

// inherited gives the listening sockets that systemd handed to this process (sd_listen_fds(3)), by their FileDescriptorName=, and the
// connections that an earlier process had it keep.
func inherited() (sockets map[string]net.Listener, kept map[string]net.Conn, err error) {
	sockets, kept = map[string]net.Listener{}, map[string]net.Conn{}
	for _, f := range activation.Files(true) { // none where LISTEN_PID is another process; marked close-on-exec
		name := f.Name()
		if strings.HasPrefix(name, gateway.PledgePrefix) {
			if c, err := net.FileConn(f); err == nil { // else it died meanwhile
				kept[name] = c
			}
			f.Close()
			continue
		}
		if sockets[name] != nil {
			return nil, nil, fmt.Errorf("socket %s was handed over twice: one ListenStream= for each FileDescriptorName=", name)
		}
		if on, err := syscall.GetsockoptInt(int(f.Fd()), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
			return nil, nil, fmt.Errorf("socket %s that was handed over does not listen: ListenStream= and Accept=no are needed", name)
		}
		l, err := net.FileListener(f)
		if err != nil {
			return nil, nil, fmt.Errorf("take over socket %s: %w", name, err)
		}
		f.Close() // l has a copy
		sockets[name] = l
	}
	return sockets, kept, nil
}

// keeper has systemd hold connections beyond our life (FileDescriptorStoreMax=). Without a manager that takes them there is none.
func keeper(kept map[string]net.Conn, log *slog.Logger) gateway.Keeper {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return gateway.Keeper{Kept: kept}
	}
	send := func(words string, rights []byte) error { // net.UnixConn sends no rights over a connected datagram socket
		s, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(s)
		wait := syscall.Timeval{Sec: 1} // a manager that is stuck must not hold mail
		if err := syscall.SetsockoptTimeval(s, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &wait); err != nil {
			return err
		}
		return syscall.Sendmsg(s, []byte(words), rights, &syscall.SockaddrUnix{Name: path}, 0) // "@" begins an abstract name
	}
	return gateway.Keeper{Kept: kept,
		// FDPOLL=0: it is kept also when the other side has closed, for what that side said lies in it.
		Store: func(name string, fd uintptr) error {
			return send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, syscall.UnixRights(int(fd)))
		},
		Drop: func(name string) {
			if err := send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
				log.Warn("the service manager keeps a connection that has ended", "err", err)
			}
		}}
}

// manager is the service manager (sd_notify(3)); where there is none nothing is told.
type manager struct{ log *slog.Logger }

func (m manager) tell(state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		m.log.Warn("the service manager was not told", "state", state[0], "err", err)
	}
}

// reloading: the time lets systemd tell this reload from one before (Type=notify-reload).
func (m manager) reloading() {
	m.tell(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()), "STATUS=reading the config again")
}

// watch tells that the process lives, twice in WatchdogSec=, as /healthz does; also while it stops. What is away elsewhere (disk, directory) is
// no reason to be killed.
func (m manager) watch(done <-chan struct{}) {
	every, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		m.log.Warn("the watchdog's time cannot be read", "err", err)
	}
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		m.tell(daemon.SdNotifyWatchdog)
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
