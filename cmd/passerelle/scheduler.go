package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked the kernel may wake a thread (timer_slack_ns of prctl(2)); its default is 50 us.
const timerSlack = time.Millisecond

// slackTimers starts the program anew, as the same process, where the kernel keeps its timers more exactly than timerSlack. Go's runtime looks
// every 20 us, as long as it finds threads in system calls to take a processor from, and each look takes time from whom it is about. The price:
// an idle processor takes a goroutine from a busy one up to a millisecond later, and so do our own waits end, of which the shortest is 5 ms. A
// thread has its slack from the one that made it and the runtime's are there before main, so only execve(2) brings it to all. Where something is
// not allowed, all goes on as it was. PASSERELLE_TIMER_SLACK in the environment, with any value, leaves the timers alone.
func slackTimers() {
	const tried = "PASSERELLE_TIMER_SLACK" // of the second start too, so that there is no third
	if os.Getenv(tried) != "" {
		os.Unsetenv(tried)
		return
	}
	runtime.LockOSThread() // prctl and execve are of one thread
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || time.Duration(now) >= timerSlack {
		return
	}
	name, err := exec.LookPath(os.Args[0]) // the process keeps the name that it was called by
	if err != nil || !samePlace(name, "/proc/self/exe") {
		return
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	syscall.Exec(name, os.Args, append(os.Environ(), tried+"=1")) // comes back only where it fails, and has given back the limit that Go raised
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // its default
}

func samePlace(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// tuneProcessors lets Go use one processor more than the machine or the container gives: the thread that waits for the disk holds one, under
// load nearly always. GOMAXPROCS wins over it. Go no longer follows a limit that changes while it runs.
func tuneProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}
