package pdf

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/types"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/validate"
)

const (
	// MaxSize is the largest PDF that is rewritten, in bytes. The file, its objects and the result lie in memory together.
	MaxSize = 16 << 20
	// Memory says how many bytes rewriting takes for each byte of a usual file.
	Memory = 4
	// maxUnpacked bounds what all object streams of a file hold together: a few bytes of a hostile file would unpack to gigabytes.
	maxUnpacked = 32 << 20
	// maxTime is how long rewriting may take; 10 MB take a fraction of a second.
	maxTime = 20 * time.Second
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
	late, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := rewrite(late, file, passphrase)
		done <- result{out, err}
	}()
	// pdfcpu looks at the context while it reads; while it checks and writes it does not. What it holds is its own, so a file on which it
	// hangs keeps nobody waiting.
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

func rewrite(ctx context.Context, file []byte, passphrase string) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("%w: panic", ErrNotRewritten)
		}
	}()
	x, err := pdfcpu.ReadWithContext(ctx, bytes.NewReader(file), configuration(file, passphrase))
	if errors.Is(err, pdfcpu.ErrEncrypted) {
		return nil, ErrEncrypted
	}
	if err != nil {
		return nil, err
	}
	if err := validate.XRefTable(x); err != nil {
		return nil, err
	}
	if x.Encrypt != nil {
		return nil, ErrEncrypted
	}
	if err := fit(x); err != nil {
		return nil, err
	}
	v := model.V20 // R 6; below it pdfcpu writes R 5, which is fast to guess at
	x.RootVersion, x.HeaderVersion = &v, &v
	x.Read.UsingXRefStreams = true // objects go into streams: names, and not strings alone, are encrypted
	var draw [16]byte
	rand.Read(draw[:])
	id := types.HexLiteral(hex.EncodeToString(draw[:]))
	x.ID = types.Array{id, id} // the one it had would tell of which file this is
	var b bytes.Buffer
	b.Grow(len(file) + len(file)/16)
	x.Write.Writer = bufio.NewWriter(until{ctx, &b})
	if err := pdfcpu.WriteContext(x); err != nil {
		return nil, err
	}
	if err := x.Write.Flush(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// until is written to for as long as the context lives.
type until struct {
	ctx context.Context
	w   io.Writer
}

func (u until) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}

// configuration is all that pdfcpu is told. It is no default of the library's: those come from a folder in the home directory, and
// lie in package state.
func configuration(file []byte, passphrase string) *model.Configuration {
	limits := model.DefaultResourceLimits()
	limits.MaxStreamBytes = MaxSize
	limits.MaxDecodeBytes = maxUnpacked / int64(1+objectStreams(file))
	limits.MaxObjectCount, limits.MaxXRefEntries, limits.MaxObjectStreamCount = 500_000, 500_000, 100_000
	return &model.Configuration{
		Cmd:               model.ENCRYPT,
		Reader15:          true,
		ValidationMode:    model.ValidationRelaxed,
		Offline:           true,
		Eol:               types.EolLF,
		WriteObjectStream: true,
		WriteXRefStream:   true,
		UserPW:            passphrase,
		OwnerPW:           rand.Text(), // nobody's: who has the passphrase may do all
		EncryptUsingAES:   true,
		EncryptKeyLength:  256,
		Permissions:       permitted,
		Limits:            limits,
	}
}

// permitted allows everything; its two lowest bits must be 0 (ISO 32000-2 table 22).
const permitted = model.PermissionFlags(0xFFFC)

// objectStreams counts the streams that the reader may unpack while it reads: those whose dictionary has a First or an Index, or
// a # that may hide one.
func objectStreams(file []byte) (n int) {
	for off := 0; ; {
		i := bytes.Index(file[off:], []byte("stream"))
		if i < 0 {
			return n
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
			n++
		}
	}
}

// fit refuses what pdfcpu v0.15 would leave readable: the contents of a signature (and rewriting breaks it), a stream that names a crypt filter
// or calls itself a cross reference.
func fit(x *model.Context) error {
	if len(x.Signatures) > 0 {
		return ErrSigned
	}
	for _, e := range x.Table {
		if e == nil || e.Free || e.Object == nil {
			continue
		}
		if err := plain(e.Object, 0); err != nil {
			return err
		}
	}
	return nil
}

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
