package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked the kernel may wake a thread (timer_slack_ns of prctl(2)); its default is 50 us.
const timerSlack = time.Millisecond

// slackTimers starts the program anew, as the same process, where the kernel keeps its timers more exactly than timerSlack. Go's runtime looks
// after its threads every 20 us while any of them waits for the disk or the wire, and each look takes the processor from whom it is about; what
// waits for a time here waits for seconds. A thread has its slack from the one that made it and the runtime's are there before main, so only
// execve(2) brings it to all. Where something is not allowed, all goes on as it is.
func slackTimers() {
	const tried = "PASSERELLE_TIMER_SLACK" // in the environment of the second start, so that there is no third
	if os.Getenv(tried) != "" {
		os.Unsetenv(tried)
		return
	}
	runtime.LockOSThread() // prctl and execve are of one thread
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || time.Duration(now) >= timerSlack {
		return
	}
	program, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	syscall.Exec(program, os.Args, append(os.Environ(), tried+"=1")) // comes back only where it fails
}

// tuneProcessors lets Go use one processor more than there are: one of its own is held by the thread that waits for the disk, which under load
// is nearly always. GOMAXPROCS wins over it.
func tuneProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}
