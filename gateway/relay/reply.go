package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxLine  = 2048 // octets; RFC 5321 section 4.5.3.1.5 says 512, real servers write more
	maxLines = 100  // lines of one reply
	maxText  = 400  // octets of a hop's words that we repeat: our own reply must stay under 512
)

// errProtocol wraps everything that is not an SMTP reply, or not one that can stand here.
var errProtocol = errors.New("hop broke the protocol")

// reply is one SMTP reply (RFC 5321 section 4.2).
type reply struct {
	code     int
	enhanced [3]int   // class.0.0 where the hop gave none
	lines    []string // behind the code, as they came
}

// ok tells whether this is a positive completion.
func (r reply) ok() bool { return r.code/100 == 2 }

// refusal tells whether this is a 4xx or a 5xx.
func (r reply) refusal() bool { return r.code >= 400 }

// readReply reads one reply. br must have a buffer of maxLine octets; what does not fit is refused.
func readReply(br *bufio.Reader) (reply, error) {
	var r reply
	for {
		line, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return reply{}, fmt.Errorf("%w: reply line over %d octets", errProtocol, maxLine)
		case err == io.EOF && len(line) > 0:
			return reply{}, io.ErrUnexpectedEOF
		case err != nil:
			return reply{}, err
		}
		code, text, last, err := parseLine(strings.TrimRight(string(line), "\r\n"))
		if err != nil {
			return reply{}, err
		}
		if r.lines != nil && code != r.code {
			return reply{}, fmt.Errorf("%w: reply changes its code from %d to %d", errProtocol, r.code, code)
		}
		r.code, r.lines = code, append(r.lines, text)
		if last {
			break
		}
		if len(r.lines) == maxLines {
			return reply{}, fmt.Errorf("%w: reply of over %d lines", errProtocol, maxLines)
		}
	}
	var ok bool
	if r.enhanced, _, ok = cutEnhanced(r.lines[0], r.code); !ok {
		r.enhanced = [3]int{r.code / 100, 0, 0}
	}
	return r, nil
}

// parseLine reads `250-text`, `250 text` or `250`.
func parseLine(s string) (code int, text string, last bool, err error) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, "", false, fmt.Errorf("%w: not a reply line", errProtocol)
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	switch {
	case len(s) == 3:
		return code, "", true, nil
	case s[3] == ' ':
		return code, s[4:], true, nil
	case s[3] == '-':
		return code, s[4:], false, nil
	}
	return 0, "", false, fmt.Errorf("%w: not a reply line", errProtocol)
}

// cutEnhanced takes an RFC 3463 code off the front of a reply's text; its class must be that of the reply (RFC 2034 section 4).
func cutEnhanced(s string, code int) (e [3]int, rest string, ok bool) {
	word, rest, _ := strings.Cut(s, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return [3]int{}, s, false
	}
	for i, p := range parts {
		if p == "" || len(p) > 3 {
			return [3]int{}, s, false
		}
		for _, c := range []byte(p) {
			if c < '0' || c > '9' {
				return [3]int{}, s, false
			}
			e[i] = e[i]*10 + int(c-'0')
		}
	}
	if e[0] != code/100 {
		return [3]int{}, s, false
	}
	return e, rest, true
}

// text gives the hop's words without codes on one line: printable ASCII, bounded, so that they can stand in a reply of ours.
func (r reply) text() string {
	var b strings.Builder
	for _, line := range r.lines {
		_, line, _ = cutEnhanced(line, r.code)
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		for _, c := range line {
			if c < 0x20 || c > 0x7e {
				c = '?'
			}
			if b.Len() == maxText {
				return b.String()
			}
			b.WriteByte(byte(c))
		}
		if b.Len() == maxText {
			break
		}
	}
	return strings.TrimSpace(b.String())
}

// String is the reply with its codes on one line.
func (r reply) String() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2], r.text())
}
