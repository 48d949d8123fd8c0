package trust

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxXDMFiles is how many documents are taken out of one archive.
const maxXDMFiles = 100

// UnpackXDM gives each PDF and XML document of an IHE_XDM.ZIP to take, under a name that is safe on every system, with its media type. The
// limits are those of ReadXDM, and an archive without METADATA.XML is an error here too. Content that is not what its name says, an
// encrypted entry and a wrong checksum are errors; take may have had other documents by then.
func UnpackXDM(r io.ReaderAt, size int64, take func(name, mediaType string, r io.Reader) error) error {
	z, err := listXDM(r, size)
	if err != nil {
		return err
	}
	left, metadata, names := int64(maxXDMTotal), false, map[string]bool{}
	for _, f := range z.File {
		base := path.Base(strings.ToUpper(strings.ReplaceAll(f.Name, `\`, "/")))
		if base == "METADATA.XML" {
			metadata = true
			continue
		}
		kind := map[string]string{".PDF": "application/pdf", ".XML": "application/xml"}[path.Ext(base)]
		if kind == "" || f.FileInfo().IsDir() {
			continue
		}
		if len(names) == maxXDMFiles || f.Flags&1 != 0 {
			return errXDMLimit
		}
		in, err := f.Open()
		if err != nil {
			return fmt.Errorf("XDM: %w", err)
		}
		limited := &xdmReader{in, min(left, maxXDMFile)}
		before := limited.left
		err = takeXDM(limited, safeXDMName(base, names), kind, take)
		in.Close()
		left -= before - limited.left
		if err != nil {
			return err
		}
	}
	if !metadata {
		return errors.New("XDM: no METADATA.XML in it")
	}
	return nil
}

func takeXDM(r io.Reader, name, kind string, take func(name, mediaType string, r io.Reader) error) error {
	b := bufio.NewReaderSize(r, 4096)
	head, err := b.Peek(256)
	if err != nil && err != io.EOF {
		return fmt.Errorf("XDM: %w", err)
	}
	pdf := bytes.HasPrefix(head, []byte("%PDF-"))
	if !pdf && kind == "application/pdf" || !isXML(head) && kind == "application/xml" {
		return errors.New("XDM: a document is not what its name says")
	}
	return take(name, kind, b)
}

// isXML tells whether a file begins as XML does, in UTF-8 or UTF-16.
func isXML(head []byte) bool {
	for _, bom := range []string{"\xef\xbb\xbf", "\xfe\xff\x00", "\xff\xfe"} {
		if h, ok := bytes.CutPrefix(head, []byte(bom)); ok {
			head = h
			break
		}
	}
	return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("<"))
}

// safeXDMName keeps of a name, in upper case, letters, digits and dashes. What stands before it tells where the file came from, and keeps names
// that a system has a meaning for (CON, AUX) and hidden ones away; a number tells two of one name apart.
func safeXDMName(base string, taken map[string]bool) string {
	ext := path.Ext(base)
	stem := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, strings.TrimSuffix(base, ext))
	stem = "XDM_" + stem[:min(len(stem), 60)]
	name := stem + ext
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s_%d%s", stem, n, ext)
	}
	taken[name] = true
	return name
}
