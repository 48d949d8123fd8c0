package gatewaytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports that FreePort gives: blocks of a hundred from 18000 up, below the range that Linux gives to outgoing connections, so that none
// of them takes one before its owner listens. One process has so many blocks at most.
const firstPort, portBlock, portBlocks, mostBlocks = 18000, 100, 140, 20

// ports are this process's: those of all its blocks and those not given yet, and the lock of each block, which ends with the process.
var ports struct {
	sync.Mutex
	all, rest []int
	locks     []net.Listener
}

// FreePort is a port of 127.0.0.1 that nobody listened on a moment ago. No other process is given it while this one runs, for the
// tests of two packages run side by side and seconds may pass before a port's owner listens; this one not before 2000 others.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	var last error
	for range 1000 {
		if len(ports.rest) == 0 {
			if err := takeBlock(); err != nil {
				return 0, fmt.Errorf("find a free port: %w", err)
			}
		}
		port := ports.rest[0]
		ports.rest = ports.rest[1:]
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

// takeBlock fills ports.rest. A block is locked by a socket of a name in the abstract space, unix(7): it belongs to the same network
// as the ports and leaves no file behind.
func takeBlock() error {
	if len(ports.locks) == mostBlocks {
		ports.rest = ports.all
		return nil
	}
	for _, n := range rand.Perm(portBlocks) {
		l, err := net.Listen("unix", fmt.Sprintf("@passerelle-test-ports-%d", n))
		if err != nil {
			continue
		}
		ports.locks = append(ports.locks, l)
		for i := range portBlock {
			ports.all = append(ports.all, firstPort+n*portBlock+i)
		}
		ports.rest = ports.all[len(ports.all)-portBlock:]
		return nil
	}
	if len(ports.all) == 0 {
		return errors.New("all are given")
	}
	ports.rest = ports.all
	return nil
}
