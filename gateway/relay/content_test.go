package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"passerelle/gateway/message"

	"pgregory.net/rapid"
)

// TestStuffingRoundTrip: however the content is cut, a reader of dot-stuffed text gets it back, with a final CRLF.
func TestStuffingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", ".", "..", "a", "é", ".\r\n", "long line of text"})).Draw(t, "words")
		content := strings.Join(words, "")
		var s survey
		var d stuffer
		var out []byte
		for p := content; p != ""; {
			n := rapid.IntRange(1, len(p)).Draw(t, "cut")
			s.add([]byte(p[:n]))
			out = d.append(out, []byte(p[:n]))
			p = p[n:]
		}
		if !s.dots && string(out) != content {
			t.Fatalf("survey saw no dots in %q", content)
		}
		want := content
		if !s.ended() {
			out, want = append(out, "\r\n"...), want+"\r\n"
		}
		if s.unclean() || s.eightBit != strings.Contains(content, "é") || s.octets() != int64(len(want)) {
			t.Fatalf("survey of %q: %+v", content, s)
		}
		got, err := io.ReadAll(textproto.NewReader(bufio.NewReader(bytes.NewReader(append(out, ".\r\n"...)))).DotReader())
		if err != nil || string(got) != strings.ReplaceAll(want, "\r\n", "\n") {
			t.Fatalf("%q: got %q, %v", content, got, err)
		}
	})
}

func TestSurveyFindsBareLineEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.StringOfN(rapid.SampledFrom([]rune("\r\n.a")), 0, 12, -1).Draw(t, "content")
		var s survey
		for i := range content {
			s.add([]byte(content[i : i+1]))
		}
		if want := strings.ContainsAny(strings.ReplaceAll(content, "\r\n", ""), "\r\n"); s.unclean() != want {
			t.Fatalf("%q: unclean %v, want %v", content, s.unclean(), want)
		}
	})
}

func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 2.1.0 b\r\n", "550\n", "250 \xff\r\n", "999 x\r\n", "421 4.4.2 " + strings.Repeat("é", 600) + "\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), maxLine))
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || r.enhanced[0] != r.code/100 || len(r.lines) == 0 || len(r.lines) > maxLines {
			t.Fatalf("%q: %+v", in, r)
		}
		text := r.text()
		if len(text) > maxText || strings.ContainsFunc(text, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
			t.Fatalf("%q: text %q", in, text)
		}
	})
}

// TestPostfixSink hands letters on to Debian's smtp-sink, by SMTP and by LMTP, one too large for memory among them.
func TestPostfixSink(t *testing.T) {
	if testing.Short() {
		return
	}
	const sink = "/usr/sbin/smtp-sink"
	if _, err := os.Stat(sink); err != nil {
		t.Fatal("smtp-sink is missing: install the Debian package postfix")
	}
	for _, lmtp := range []bool{false, true} {
		addr := freePort(t)
		args := []string{"-c"}
		if lmtp {
			args = append(args, "-L")
		}
		cmd := exec.Command(sink, append(args, addr, "2000")...)
		if os.Getuid() == 0 {
			cmd = exec.Command(sink, append(append(args, "-u", "nobody"), addr, "2000")...)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		awaitPort(t, addr)
		hop := hopTo(addr)
		hop.LMTP = lmtp
		r := newRelay(t, Config{MaxConns: 4})
		w := message.NewBudget(0, t.TempDir()).NewWriter(0)
		for i := range 40_000 {
			fmt.Fprintf(w, ".line %d of a body that lies in a temp file\r\n", i)
		}
		big, err := w.Body()
		if err != nil {
			t.Fatal(err)
		}
		defer big.Close()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				l := letter(t, ".\r\n..\r\nhello", "a@d.test", "b@d.test")
				if i%5 == 0 {
					l.Header, l.Body = []byte("Subject: big\r\n\r\n"), big
				}
				wantCodes(t, r.Send(background(), hop, l), "accepted, accepted")
			})
		}
		wg.Wait()
		many := letter(t, "hello", "a@d.test")
		for i := range 999 { // more than one group of commands
			many.Recipients = append(many.Recipients, message.Recipient{Address: message.Address{Local: fmt.Sprintf("recipient%d", i), Domain: "d.test"}})
		}
		for i, res := range r.Send(background(), hop, many) {
			if res.Err != nil {
				t.Fatalf("recipient %d: %v", i, res.Err)
			}
		}
	}
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitPort(t *testing.T, addr string) {
	for range 100_000 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal("smtp-sink does not listen")
}

// BenchmarkSend measures the client's cost against a hop that reads in bulk and takes everything.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 10 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go trivialSink(c)
				}
			}()
			r := New(Config{MaxUses: 1 << 30})
			defer r.Close()
			hop := hopTo(l.Addr().String())
			let := letter(b, strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78), "a@d.test")
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if res := r.Send(background(), hop, let); res[0].Err != nil {
					b.Fatal(res[0].Err)
				}
			}
		})
	}
}

func trivialSink(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 x\r\n")
	buf := make([]byte, 1<<20)
	data := false
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		p := buf[:n]
		switch {
		case data && bytes.HasSuffix(p, []byte("\r\n.\r\n")):
			data = false
			io.WriteString(c, "250 2.0.0 ok\r\n")
		case data:
		case bytes.HasPrefix(p, []byte("EHLO")):
			io.WriteString(c, "250-x\r\n250 PIPELINING\r\n")
		case bytes.HasPrefix(p, []byte("MAIL")):
			data = true
			io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
		default:
			io.WriteString(c, "221 bye\r\n")
		}
	}
}
