package message

import "bytes"

// ends looks at where lines end: parsers differ in whether a bare CR, or a LF among CRLF, is an end, and so a place for a boundary; some
// read no further than a NUL.
func (p *parser) ends(line []byte) {
	cut := p.cr // the window ended between CR and LF
	if p.cr = p.long && line[len(line)-1] == '\r'; cut && line[0] == '\n' {
		p.nl = 2
	} else if cut {
		p.unclear("it holds a bare carriage return")
	}
	if p.eol == 0 {
		p.eol = p.nl
	}
	pairs := 0 // CRLF; in bulk there are many
	if cut && line[0] == '\n' {
		pairs++
	}
	for rest := line; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 || p.cr && i == len(rest)-1 {
			break
		}
		if i+1 == len(rest) || rest[i+1] != '\n' {
			p.unclear("it holds a bare carriage return")
			break
		}
		pairs, rest = pairs+1, rest[i+2:]
	}
	if n := bytes.Count(line, newline); n > 0 && (p.eol == 2 && n != pairs || p.eol == 1 && pairs > 0) {
		p.unclear("its lines end in different ways")
	}
	if bytes.IndexByte(line, 0) >= 0 {
		p.unclear("it holds a NUL")
	}
}

var newline = []byte("\n")

func lineEnd(line []byte) int64 {
	switch {
	case bytes.HasSuffix(line, []byte("\r\n")):
		return 2
	case bytes.HasSuffix(line, []byte("\n")):
		return 1
	}
	return 0
}
