package gatewaytest

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Eicar is the test file that every virus scanner knows (eicar.org); in two pieces, so that none takes this file for it.
const Eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// ClamdStream is the longest file that StartClamd's daemon reads.
const ClamdStream = 2 << 20

// Clamd is ClamAV's daemon with one signature of our own: Eicar, anywhere in a file, is Passerelle.Test. freshclam never runs.
type Clamd struct {
	Socket, Addr string
	// Took is how long it was not ready.
	Took time.Duration
	cmd  *exec.Cmd
	dir  string
}

// StartClamd starts the daemon of Debian's clamav-daemon in a folder.
func StartClamd(dir string) (*Clamd, error) {
	const bin = "/usr/sbin/clamd"
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("clamd is needed: apt-get install clamav-daemon: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	c := &Clamd{Socket: filepath.Join(dir, "clamd.ctl"), Addr: fmt.Sprint("127.0.0.1:", port), dir: dir}
	db := filepath.Join(dir, "signatures")
	conf := fmt.Sprintf("Foreground yes\nDatabaseDirectory %s\nLocalSocket %s\nTCPSocket %d\nTCPAddr 127.0.0.1\nLogFile %s\nTemporaryDirectory %s\nStreamMaxLength %d\nMaxThreads 2\n",
		db, c.Socket, port, filepath.Join(dir, "log"), dir, ClamdStream)
	if err := os.Mkdir(db, 0o755); err != nil {
		return nil, err
	}
	// name:any type of file:at any offset:octets
	if err := os.WriteFile(filepath.Join(db, "passerelle.ndb"), []byte("Passerelle.Test:0:*:"+hex.EncodeToString([]byte(Eicar))+"\n"), 0o644); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "clamd.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	start := time.Now()
	c.cmd = exec.Command(bin, "--config-file="+path)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start clamd: %w", err)
	}
	for _, at := range [][2]string{{"unix", c.Socket}, {"tcp", c.Addr}} {
		for {
			conn, err := net.Dial(at[0], at[1])
			if err == nil {
				conn.Close()
				break
			}
			if time.Since(start) > 30*time.Second {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				c.cmd.Process.Kill()
				c.cmd.Wait()
				return nil, fmt.Errorf("clamd does not listen: %w\n%s", err, log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	c.Took = time.Since(start)
	return c, nil
}

// Close ends the daemon.
func (c *Clamd) Close() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop clamd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case <-ended:
		return nil
	case <-time.After(10 * time.Second):
		c.cmd.Process.Kill()
		<-ended
		return fmt.Errorf("clamd did not stop")
	}
}
