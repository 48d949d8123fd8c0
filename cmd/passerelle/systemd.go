package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inherited gives the listening sockets that systemd handed to this process (sd_listen_fds(3)), by their FileDescriptorName=.
func inherited() (map[string]net.Listener, error) {
	sockets := map[string]net.Listener{}
	for _, f := range activation.Files(true) { // none where LISTEN_PID is another process; marked close-on-exec
		name := f.Name()
		if sockets[name] != nil {
			return nil, fmt.Errorf("socket %s was handed over twice: one ListenStream= for each FileDescriptorName=", name)
		}
		if on, err := syscall.GetsockoptInt(int(f.Fd()), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
			return nil, fmt.Errorf("socket %s that was handed over does not listen: ListenStream= and Accept=no are needed", name)
		}
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("take over socket %s: %w", name, err)
		}
		f.Close() // l has a copy
		sockets[name] = l
	}
	return sockets, nil
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
