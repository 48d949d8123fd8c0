package pdf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/types"
)

const (
	// MaxSize is the largest PDF that is rewritten, in bytes. The file, its objects and the result lie in memory together.
	MaxSize = 16 << 20
	// Memory says how many bytes rewriting takes for each byte of a usual file.
	Memory = 4
	// maxUnpacked bounds what all object streams of a file hold together: a few bytes of a hostile file would unpack to gigabytes.
	maxUnpacked = 16 << 20
	// maxObjects bounds what stands outside streams. Reading takes about thirty times as much memory, and its time grows with it.
	maxObjects = 4 << 20
	// maxTime is how long rewriting may take; 10 MB take a fraction of a second. It also bounds what a file takes that lies to objects.
	maxTime = 10 * time.Second
)

// Encrypt rewrites a PDF, encrypted under the passphrase; all that it lets one do it lets its reader do. out is nil where err is not. A
// file that cannot be rewritten, for a reason of its own, gives one of the errors above; nothing of it is in an error's text.
func Encrypt(ctx context.Context, in io.Reader, passphrase string) (out []byte, err error) {
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	file, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the PDF: %w", err)
	}
	if len(file) > MaxSize {
		return nil, ErrTooLarge
	}
	streams, objects := weigh(file)
	if objects > maxObjects {
		return nil, ErrTooLarge
	}
	if !complete(file) {
		return nil, fmt.Errorf("%w: it does not end as a PDF ends", ErrNotRewritten)
	}
	late, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := rewrite(late, file, streams, passphrase)
		done <- result{out, err}
	}()
	// What it holds is its own, so that a file on which the library hangs keeps nobody waiting.
	select {
	case r := <-done:
		out, err = r.out, r.err
	case <-late.Done():
		err = late.Err()
	}
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("encrypt the PDF: %w", ctx.Err())
	case errors.Is(err, ErrSigned), errors.Is(err, ErrEncrypted), errors.Is(err, ErrNotRewritten):
		return nil, err
	}
	return nil, ErrNotRewritten // the library's words may hold some of the file's
}

func rewrite(ctx context.Context, file []byte, streams int, passphrase string) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("%w: panic", ErrNotRewritten)
		}
	}()
	x, err := pdfcpu.ReadWithContext(ctx, bytes.NewReader(file), configuration(streams))
	if errors.Is(err, pdfcpu.ErrEncrypted) {
		return nil, ErrEncrypted
	}
	if err != nil {
		return nil, err
	}
	if x.Encrypt != nil {
		return nil, ErrEncrypted
	}
	if len(x.Signatures) > 0 {
		return nil, ErrSigned
	}
	var w rewriting
	w.out.Grow(len(file) + len(file)/16)
	if err := w.write(ctx, x, passphrase); err != nil {
		return nil, err
	}
	return w.out.Bytes(), nil
}

// configuration is all that pdfcpu is told. It is no default of the library's: those come from a folder in the home directory, and
// lie in package state.
func configuration(streams int) *model.Configuration {
	limits := model.DefaultResourceLimits()
	limits.MaxStreamBytes = MaxSize
	limits.MaxDecodeBytes = maxUnpacked / int64(1+streams)
	limits.MaxObjectCount, limits.MaxXRefEntries, limits.MaxObjectStreamCount = 500_000, 500_000, 100_000
	return &model.Configuration{
		Cmd:            model.ENCRYPT, // refuses what is encrypted already
		OwnerPW:        "none",        // it asks for one; nothing is encrypted by it
		Reader15:       true,
		ValidationMode: model.ValidationStrict, // what cannot be parsed is an error, and not left out
		Offline:        true,
		Eol:            types.EolLF,
		Limits:         limits,
	}
}

// weigh counts the streams that the reader may unpack while it reads (those whose dictionary has a First or is a cross reference, or a # that
// may hide one), and the bytes outside all streams.
func weigh(file []byte) (unpacked, objects int) {
	objects = len(file)
	for off := 0; ; {
		i := bytes.Index(file[off:], []byte("stream"))
		if i < 0 {
			return unpacked, objects
		}
		off += i + len("stream")
		dict := file[max(0, off-1024) : off-len("stream")]
		if bytes.HasSuffix(dict, []byte("end")) {
			continue
		}
		if k := bytes.LastIndex(dict, []byte("obj")); k >= 0 {
			dict = dict[k:]
		}
		if bytes.Contains(dict, []byte("/First")) || bytes.Contains(dict, []byte("/XRef")) || bytes.IndexByte(dict, '#') >= 0 {
			unpacked++
		}
		if n := bytes.Index(file[off:], []byte("endstream")); n > 0 {
			objects -= n
			off += n
		}
	}
}

// lastLines end a PDF (ISO 32000-2 section 7.5.5).
var lastLines = regexp.MustCompile(`startxref\s+([0-9]{1,10})\s+%%EOF\s*$`)

// complete tells whether the file ends with the place of its cross references, and these are there. pdfcpu would mend a file that was cut
// off, and leave out what it does not find.
func complete(file []byte) bool {
	m := lastLines.FindSubmatch(bytes.TrimRight(file[max(0, len(file)-1024):], "\x00"))
	if m == nil {
		return false
	}
	at, err := strconv.Atoi(string(m[1]))
	if err != nil || at >= len(file) {
		return false
	}
	return references.Match(file[at:min(at+64, len(file))])
}

var references = regexp.MustCompile(`^\s*(xref\s|[0-9]+\s+[0-9]+\s+obj\b)`)

// plain refuses what cannot be encrypted as everything else is, or must not be rewritten: a signature, a stream that names a crypt filter of its
// own or calls itself a cross reference.
func plain(o types.Object, depth int) error {
	if depth > 200 {
		return ErrNotRewritten
	}
	switch o := o.(type) {
	case types.StreamDict:
		return plainStream(&o, depth)
	case *types.StreamDict:
		return plainStream(o, depth)
	case types.Dict:
		for _, key := range []string{"Type", "FT"} {
			if n := o.NameEntry(key); n != nil && (*n == "Sig" || *n == "DocTimeStamp") {
				return ErrSigned
			}
		}
		if o["ByteRange"] != nil {
			return ErrSigned
		}
		for _, v := range o {
			if err := plain(v, depth+1); err != nil {
				return err
			}
		}
	case types.Array:
		for _, v := range o {
			if err := plain(v, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func plainStream(s *types.StreamDict, depth int) error {
	for _, f := range s.FilterPipeline {
		if f.Name == "Crypt" {
			return fmt.Errorf("%w: a stream names its own crypt filter", ErrNotRewritten)
		}
	}
	if t := s.Type(); t != nil && *t == "XRef" {
		return fmt.Errorf("%w: a stream calls itself a cross reference", ErrNotRewritten)
	}
	return plain(s.Dict, depth+1)
}
