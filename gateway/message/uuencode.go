package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"path"
	"strings"
)

// uudecoder takes uuencoded files (POSIX uuencode, both of its forms) out of a text. It is strict: a line of another length than its
// first sign says, a sign that no encoder writes or a missing end is an error, for decoders make different files of them.
type uudecoder struct {
	budget *Budget
	files  []UnpackedFile

	w    *BodyWriter // of the file at hand, nil in text
	name string
	b64  bool
	done bool // the empty line came, "end" must follow
}

var errUU = errors.New("no clean uuencode")

// decode writes the text without the files.
func (d *uudecoder) decode(text io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, window)
	defer func() {
		if d.w != nil {
			d.w.Abort()
		}
	}()
	for mid := false; ; {
		line, err := in.ReadSlice('\n')
		long := err == bufio.ErrBufferFull
		if err != nil && err != io.EOF && !long {
			return err
		}
		if len(line) > 0 {
			if e := d.line(text, line, mid || long); e != nil {
				return e
			}
		}
		if mid = long; err == io.EOF {
			break
		}
	}
	if d.w != nil {
		return errUU
	}
	return nil
}

// line takes one line, or a piece of one that is longer than any of a file.
func (d *uudecoder) line(text io.Writer, line []byte, piece bool) error {
	bare := bytes.TrimRight(line, "\r\n")
	switch {
	case d.w != nil && piece:
		return errUU
	case d.w != nil:
		return d.file(bare)
	case !piece && bytes.HasPrefix(bare, []byte("begin")) && isUUBegin(bare[5:]):
		return d.begin(bare[5:])
	}
	_, err := text.Write(line)
	return err
}

func (d *uudecoder) begin(rest []byte) error {
	rest, d.b64 = bytes.CutPrefix(rest, []byte("-base64"))
	if bytes.HasPrefix(rest, []byte("  ")) || len(d.files) >= unpackFiles {
		return errUU
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(string(rest), " "), " ") // behind the mode
	if d.name = baseName(name); d.name == "" {
		return errUU
	}
	d.w, d.done = d.budget.NewWriter(0), false
	return nil
}

func (d *uudecoder) file(line []byte) error {
	switch {
	case d.b64 && string(line) == "====", !d.b64 && d.done && string(line) == "end":
		return d.end()
	case d.done:
		return errUU
	case d.b64:
		out, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(out) == 0 || bytes.ContainsAny(line, "\r\n") {
			return errUU
		}
		d.done = line[len(line)-1] == '='
		_, err = d.w.Write(out)
		return err
	case len(line) == 0:
		return errUU
	}
	for _, c := range line {
		if c < ' ' || c > '`' {
			return errUU
		}
	}
	n := int(line[0]-' ') & 63
	if len(line) != 1+(n+2)/3*4 {
		return errUU
	}
	if n == 0 {
		d.done = true
		return nil
	}
	out := make([]byte, 0, 48)
	for s := line[1:]; len(s) > 0; s = s[4:] {
		a, b, c, e := (s[0]-' ')&63, (s[1]-' ')&63, (s[2]-' ')&63, (s[3]-' ')&63
		out = append(out, a<<2|b>>4, b<<4|c>>2, c<<6|e)
	}
	_, err := d.w.Write(out[:n])
	return err
}

func (d *uudecoder) end() error {
	w := d.w
	d.w = nil
	body, err := w.Body()
	if err != nil {
		return err
	}
	typ, _, err := mime.ParseMediaType(mime.TypeByExtension(path.Ext(d.name)))
	if err != nil {
		typ = "application/octet-stream"
	}
	d.files = append(d.files, UnpackedFile{Name: d.name, Type: typ, body: body, size: body.Size()})
	return nil
}
