package gatewaytest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// started waits until a server takes connections at addr and, where hello is not "", greets with it. gone: its process has ended.
func started(ctx context.Context, name, addr, hello string, ended <-chan error, log func() string) (gone bool, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		d := net.Dialer{Timeout: time.Second}
		if c, err := d.DialContext(ctx, "tcp", addr); err == nil {
			line := ""
			if hello != "" {
				c.SetReadDeadline(time.Now().Add(10 * time.Second))
				line, err = bufio.NewReader(c).ReadString('\n')
			}
			c.Close()
			if err == nil && strings.HasPrefix(line, hello) {
				return false, nil
			}
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("%s did not answer: %w\n%s", name, ctx.Err(), log())
		case err := <-ended:
			return true, fmt.Errorf("%s ended: %w\n%s", name, err, log())
		case <-tick.C:
		}
	}
}
