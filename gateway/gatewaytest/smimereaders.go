package gatewaytest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// NSS makes a database in dir with the key in the two PEM files, and opens the DER of S/MIME messages as Thunderbird does.
func NSS(dir, certFile, keyFile string) (open func(der []byte) ([]byte, error), err error) {
	p12 := filepath.Join(dir, "nss.p12")
	for _, args := range [][]string{
		{"certutil", "-N", "-d", dir, "--empty-password"},
		{"openssl", "pkcs12", "-export", "-in", certFile, "-inkey", keyFile, "-out", p12, "-passout", "pass:x", "-name", "a"},
		{"pk12util", "-i", p12, "-d", dir, "-W", "x"},
		{"certutil", "-M", "-d", dir, "-n", "a", "-t", "CTu,CTu,CTu"},
	} {
		if _, err := outputOf(nil, args...); err != nil {
			return nil, fmt.Errorf("NSS database (Debian package libnss3-tools): %w", err)
		}
	}
	return func(der []byte) ([]byte, error) {
		in := filepath.Join(dir, "in.p7m")
		if err := os.WriteFile(in, der, 0o600); err != nil {
			return nil, err
		}
		return outputOf(nil, "cmsutil", "-D", "-d", dir, "-i", in)
	}, nil
}

// GPGSM makes a home of GnuPG's with the key in the two PEM files, RSA alone: 2.2 imports no other, and in the old ciphers of PKCS #12. It
// opens the DER of S/MIME messages; stop ends its agent.
func GPGSM(certFile, keyFile string) (open func(der []byte) ([]byte, error), stop func(), err error) {
	home, err := os.MkdirTemp("", "g") // short: the agent's socket lies in it
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	}
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("s2k-count 65536\n"), 0o600); err != nil { // else half a second for each use of the key
		return nil, nil, err
	}
	p12 := filepath.Join(home, "a.p12")
	gpgsm := func(args ...string) ([]byte, error) {
		return outputOf([]byte("x\n"), append([]string{"gpgsm", "--homedir", home, "--batch", "--quiet", "--disable-crl-checks", "--pinentry-mode", "loopback", "--passphrase-fd", "0"}, args...)...)
	}
	for range 5 { // now and then 2.2 cannot read its own kind of file; another has another salt
		_, err = outputOf(nil, "openssl", "pkcs12", "-export", "-in", certFile, "-inkey", keyFile, "-out", p12, "-passout", "pass:x",
			"-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
		if err == nil {
			_, err = gpgsm("--import", p12)
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("home of gpgsm (Debian packages gpgsm, openssl): %w", err)
	}
	return func(der []byte) ([]byte, error) {
		in := filepath.Join(home, "in.p7m")
		if err := os.WriteFile(in, der, 0o600); err != nil {
			return nil, err
		}
		return gpgsm("--decrypt", in)
	}, stop, nil
}

// outputOf is what a program writes; the error has what it complains of.
func outputOf(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", args[0], err, errs.String())
	}
	return out.Bytes(), nil
}
