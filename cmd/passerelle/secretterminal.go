package main

import (
	"os"
	"syscall"
	"unsafe"
)

// hideInput keeps a terminal from showing what is typed, until show.
func hideInput(f *os.File) (show func(), err error) {
	var was syscall.Termios
	if err := termios(f, syscall.TCGETS, &was); err != nil {
		return nil, err
	}
	hidden := was
	hidden.Lflag &^= syscall.ECHO
	if err := termios(f, syscall.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() { termios(f, syscall.TCSETS, &was) }, nil
}

func termios(f *os.File, request uintptr, t *syscall.Termios) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(t))); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
