package gatewaytest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// freeze stops the processes (SIGSTOP) and waits until none of their threads runs: kill(2) returns before they have stopped, and a
// thread on another processor may still answer.
func freeze(pids ...int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("freeze process %d: %w", pid, err)
		}
	}
	for _, pid := range pids {
		for deadline := time.Now().Add(10 * time.Second); !frozen(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("freeze process %d: it still runs after 10 s", pid)
			}
		}
	}
	return nil
}

// thaw lets them go on.
func thaw(pids ...int) error {
	var errs []error
	for _, pid := range pids {
		errs = append(errs, syscall.Kill(pid, syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// frozen tells whether each thread is stopped or has ended: its state is the field behind the name's last bracket (proc(5)).
func frozen(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		state := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if err != nil || len(state) == 0 || !bytes.Contains([]byte("TZX"), state[0]) {
			return false
		}
	}
	return true
}
