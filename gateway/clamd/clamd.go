// Package clamd has files searched for viruses by ClamAV's daemon. It takes bytes, gives what was found in them, and knows nothing of mail.
package clamd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var scans = promauto.NewCounterVec(prometheus.CounterOpts{
	Name: "passerelle_clamd_scans_total", Help: "Files that clamd was asked about, by result.",
}, []string{"result"}) // clean, infected, failed

// Client asks one daemon. Each file has a connection of its own.
type Client struct {
	// Addr is host:port, or the path of a Unix socket: what begins with a slash.
	Addr string
	// Timeout bounds one file, from the connection to the verdict; 0 is a minute.
	Timeout time.Duration
	// Limit is the largest file that is sent; 0 is no limit. It stands at or below clamd's StreamMaxLength.
	Limit int64
}

var (
	// ErrTooLarge says that a file is larger than may be searched.
	ErrTooLarge = errors.New("larger than clamd may be sent")
	errFile     = errors.New("read the file")
)

const (
	chunk    = 64 << 10
	maxReply = 4 << 10
)

// Scan gives the name of the virus in r, "" where clamd finds none. After an error nothing is known of the file.
func (c *Client) Scan(ctx context.Context, r io.Reader) (virus string, err error) {
	virus, err = c.scan(ctx, r)
	switch {
	case err != nil:
		scans.WithLabelValues("failed").Inc()
		return "", fmt.Errorf("ask clamd: %w", err)
	case virus != "":
		scans.WithLabelValues("infected").Inc()
	default:
		scans.WithLabelValues("clean").Inc()
	}
	return virus, nil
}

func (c *Client) scan(ctx context.Context, r io.Reader) (string, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(c.Addr, "/") {
		network = "unix"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, c.Addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	sent := c.stream(conn, r)
	if errors.Is(sent, ErrTooLarge) || errors.Is(sent, errFile) { // clamd has not seen it to its end
		return "", sent
	}
	// clamd answers and closes as soon as the stream is longer than it wants: its words say more than our broken pipe.
	reply, err := bufio.NewReader(io.LimitReader(conn, maxReply)).ReadString(0)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", errors.Join(sent, fmt.Errorf("read verdict: %w", err))
	}
	return verdict(strings.TrimSuffix(reply, "\x00"))
}

// stream sends r as clamd's INSTREAM wants it (clamd(8)): chunks with their length in front, four octets, big-endian, an empty one at the end.
func (c *Client) stream(w io.Writer, r io.Reader) error {
	if _, err := io.WriteString(w, "zINSTREAM\x00"); err != nil {
		return err
	}
	buf := make([]byte, 4+chunk)
	for total := int64(0); ; {
		n, err := io.ReadFull(r, buf[4:])
		if total += int64(n); c.Limit > 0 && total > c.Limit {
			return ErrTooLarge
		}
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, werr := w.Write(buf[:4+n]); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			_, err = w.Write(make([]byte, 4))
			return err
		case err != nil:
			return fmt.Errorf("%w: %w", errFile, err)
		}
	}
}

// verdict reads "stream: OK", "stream: NAME FOUND"; everything else is no verdict.
func verdict(reply string) (string, error) {
	said, ok := strings.CutPrefix(reply, "stream: ")
	switch name, found := strings.CutSuffix(said, " FOUND"); {
	case !ok:
	case found && name != "":
		return name, nil
	case said == "OK":
		return "", nil
	}
	return "", fmt.Errorf("no verdict: %.200q", reply)
}
