package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sink takes mail as smtp-sink does and forgets it, on as many listeners as are given to serve. Where that is given TLS it offers STARTTLS
// and takes MAIL after it alone, from a client that showed a certificate.
type sink struct {
	// later, drop and hang are shares of the messages that are answered 451 after the dot, cut off there, and held there for hangFor.
	later, drop, hang float64
	hangFor           time.Duration
	// took is told the recipients of each message that is answered 250, nil where nobody asks.
	took func(recipients []string)

	messages atomic.Int64 // answered 250
	accepted atomic.Int64 // sessions
	sessions sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
}

// serve takes sessions until l is closed.
func (s *sink) serve(l net.Listener, secure *tls.Config) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.accepted.Add(1)
		s.mu.Lock()
		if s.open == nil {
			s.open = map[net.Conn]bool{}
		}
		s.open[c] = true
		s.mu.Unlock()
		s.sessions.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.open, c)
				s.mu.Unlock()
			}()
			s.session(c, secure)
		})
	}
}

// cut ends all sessions.
func (s *sink) cut() {
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.sessions.Wait()
}

func (s *sink) session(c net.Conn, secure *tls.Config) {
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	say := func(reply string) { w.WriteString(reply + "\r\n") }
	say("220 sink.test ESMTP")
	var to []string
	onTLS := false
	for {
		if r.Buffered() == 0 && w.Flush() != nil { // pipelined commands are answered in one write
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		switch verb = strings.ToUpper(verb); {
		case verb == "EHLO":
			offer := "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
			if secure != nil && !onTLS {
				offer += "250-STARTTLS\r\n"
			}
			say(offer + "250 SIZE 104857600")
		case verb == "STARTTLS" && secure != nil && !onTLS && r.Buffered() == 0:
			say("220 2.0.0 go")
			if w.Flush() != nil {
				return
			}
			t := tls.Server(c, secure)
			if err := t.Handshake(); err != nil {
				fmt.Fprintln(os.Stderr, "bench sink:", err)
				return
			}
			onTLS = true
			r.Reset(t)
			w.Reset(t)
		case secure != nil && !onTLS && verb != "QUIT":
			say("530 5.7.0 Must issue a STARTTLS command first")
		case verb == "MAIL":
			to = to[:0]
			say("250 2.1.0 ok")
		case verb == "RCPT":
			a, _, _ := strings.Cut(arg[strings.IndexByte(arg, '<')+1:], ">")
			to = append(to, a)
			say("250 2.1.5 ok")
		case verb == "DATA" && len(to) > 0:
			say("354 go")
			if w.Flush() != nil || skipBody(r) != nil {
				return
			}
			switch p := rand.Float64(); {
			case p < s.drop:
				return
			case p < s.drop+s.hang:
				time.Sleep(s.hangFor)
				return
			case p < s.drop+s.hang+s.later:
				say("451 4.3.0 later")
			default:
				s.messages.Add(1)
				if s.took != nil {
					s.took(to)
				}
				say("250 2.0.0 ok")
			}
			to = nil
		case verb == "RSET" || verb == "NOOP":
			say("250 2.0.0 ok")
		case verb == "QUIT":
			say("221 2.0.0 bye")
			w.Flush()
			return
		default:
			say("502 5.5.1 no")
		}
	}
}

// skipBody reads to the line that is a dot.
func skipBody(r *bufio.Reader) error {
	begin := true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if begin && bytes.Equal(line, []byte(".\r\n")) {
			return nil
		}
		begin = err == nil
	}
}

// secureFrom is TLS 1.3 with the peer's certificate below dir (see keys); clients must show one of the same authority.
func secureFrom(dir string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "peer", "cert.pem"), filepath.Join(dir, "peer", "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("sink's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "peer", "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("sink's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("sink's authority: no certificate")
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

// sinkCommand is smtp-sink for smtpload: the same command line and the same counter, so that every script works with it. Counted is
// mail for dest.test alone, not the codes that route pickup sends to the clinic. TLS_SINK (host:port) and KEYS open the second, TLS, door.
func sinkCommand(ctx context.Context, f *flag.FlagSet, args []string) error {
	f.Bool("c", true, "count (always)")
	f.String("u", "", "ignored")
	if err := f.Parse(args); err != nil {
		return err
	}
	var s sink
	var count atomic.Int64
	var out sync.Mutex
	s.took = func(to []string) {
		if strings.HasSuffix(to[0], "@dest.test") {
			out.Lock()
			defer out.Unlock()
			fmt.Printf("sess=%d quit=0 mesg=%d \r", s.accepted.Load(), count.Add(1))
		}
	}
	l, err := net.Listen("tcp", f.Arg(0))
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	go s.serve(l, nil)
	if addr := os.Getenv("TLS_SINK"); addr != "" {
		secure, err := secureFrom(os.Getenv("KEYS"))
		if err != nil {
			return err
		}
		lt, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("sink: %w", err)
		}
		go s.serve(lt, secure)
	}
	<-ctx.Done()
	return nil
}
