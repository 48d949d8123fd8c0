package protect

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// Opener opens and verifies what came for one recipient. Its functions hold the keys; a nil one knows none of its form. What they write is used
// only where they give no error: nothing of a message that was tampered with goes on.
type Opener struct {
	// SMIME decrypts the DER of a CMS EnvelopedData or AuthEnvelopedData.
	SMIME func(w io.Writer, der io.Reader) (Layer, error)
	// OpenPGP decrypts a message, armoured or not.
	OpenPGP func(w io.Writer, r io.Reader) (Layer, error)
	// Detached verifies a signature beside an entity, in S/MIME or OpenPGP (multipart/signed).
	Detached func(form string, entity io.Reader, signature []byte) Signature
	// Enclosing verifies a CMS SignedData with its content in it (smime-type=signed-data), and writes that.
	Enclosing func(w io.Writer, der io.Reader) (Signature, error)
	// Limit is the size of what is opened, in bytes.
	Limit int64
}

// Layer is one encryption that was opened.
type Layer struct {
	Cipher        string // "aes-256-gcm"
	Authenticated bool   // by a tag (AEAD) or an MDC that was checked
	Key           string // the clinic's key that opened it, for people
	Weak          bool   // a cipher that is not good enough any more
	// Signed: OpenPGP signs within the encryption.
	Signed *Signature
}

// Signature is what one is worth.
type Signature struct {
	By    string // who, as the certificate or the key says
	Valid bool   // it is of these very bytes
	// Trusted: his certificate leads to an authority that is believed, or the clinic's list has the key.
	Trusted bool
	// Of: the certificate or key holds the address of From.
	Of    bool
	How   string // "chain to CN=...", or why it is not valid or not trusted
	Chain []*x509.Certificate
	At    time.Time // as the signer says, zero where he does not
}

// good tells whether the signature proves that its author wrote these bytes.
func (s *Signature) good() bool { return s != nil && s.Valid && s.Trusted && s.Of }

func (s *Signature) String() string {
	switch {
	case !s.Valid:
		return "not valid: " + s.How
	case !s.Trusted:
		return "valid, not trusted: " + s.How
	case !s.Of:
		return "valid, not of From: " + s.How
	}
	return "valid: " + s.How
}

// OpenError is why a layer could not be opened.
type OpenError struct {
	Why Trouble
	Err error
}

func (e *OpenError) Error() string { return string(e.Why) + ": " + e.Err.Error() }
func (e *OpenError) Unwrap() error { return e.Err }

// Opened is a message for the clinic as it is handed on. Body is nil where it stays as it came.
type Opened struct {
	Header message.Header
	Body   *message.Body
	Start  int64 // of what follows Header in Body
	Protection
	Trouble   Trouble // "" where it was opened, or needed no opening
	Signature *Signature
	// Err is the detail of the trouble, for the log.
	Err error
}

// errAlone: it is encrypted in a form for which the recipient has no key here, so his own software may have one.
var errAlone = errors.New("no key of this form")

// maxLayers: triple wrapped (RFC 2634 section 1.1) is three.
const maxLayers = 5

// Protected tells whether the message as a whole is signed or encrypted in a form that Open looks at.
func Protected(b *message.Body, x *message.Index) bool { return kindOf(b, x.Parts[0]) != kindOther }

type shape int

const (
	kindOther shape = iota
	kindEnveloped
	kindSignedData
	kindSigned    // multipart/signed
	kindEncrypted // multipart/encrypted
	kindInline    // OpenPGP's own armour in a text
)

func kindOf(b *message.Body, p message.Part) shape {
	switch p.Type {
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		switch p.Params["smime-type"] {
		case "signed-data":
			return kindSignedData
		case "enveloped-data", "authenveloped-data", "authEnveloped-data":
			return kindEnveloped
		case "":
			var begin [32]byte // QUIRK: Outlook 2003 and gateways leave the parameter out; the OID tells
			n, _ := io.ReadFull(message.DecodePart(b, p), begin[:])
			switch {
			case bytes.Contains(begin[:n], oidSignedData):
				return kindSignedData
			case bytes.Contains(begin[:n], oidEnvelopedData), bytes.Contains(begin[:n], oidAuthEnvelopedData):
				return kindEnveloped
			}
		}
	case "multipart/signed":
		return kindSigned
	case "multipart/encrypted":
		return kindEncrypted
	case "text/plain":
		if armouredText(b, p) == "MESSAGE" {
			return kindInline
		}
	}
	return kindOther
}

// The OIDs as they stand in DER (RFC 5652 sections 5.1 and 6.1, RFC 5083 section 2.1).
var (
	oidSignedData        = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}
	oidEnvelopedData     = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3}
	oidAuthEnvelopedData = []byte{6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 23}
)

// Open takes the layers off a message, from the outside in, and gives what its recipient sees. h is its header. The error is of ours alone: no
// room, a context that ended. Whatever is wrong with the message is told to its recipient, above the message as it came.
//
// What was decrypted becomes the message: its fields Content-* stand under the outer header, in the place of the outer ones. Of the fields that
// it protects only Subject is taken: From, To and the rest stay those that servers saw and marks vouch for. A signature is verified and left
// where it is, so that readers may verify it again; one that stands around an encryption cannot stay, and the field says what it was worth.
//
// Nothing is given where the message is left alone: it is neither signed nor encrypted, or for no key that could be here.
//
// Where nothing authenticates the content (CBC without a signature: RFC 8551 section 6, "EFAIL"), it is shown only if it is texts and files
// that load nothing when they are shown. Else it stands under the explanation as a file.
func (o *Opener) Open(ctx context.Context, h message.Header, b *message.Body, x *message.Index, opt Options) (out *Opened, err error) {
	r := &opening{Opener: o, ctx: ctx, opt: opt, out: &Opened{Header: h}}
	defer func() {
		if p := recover(); p != nil {
			r.close()
			out, err = nil, &Error{Step: "open", Err: fmt.Errorf("panic: %v", p)}
		}
	}()
	defer r.close()
	if err = r.enter(b); err == nil {
		err = r.layers()
	}
	var trouble *OpenError
	switch {
	case errors.Is(err, errAlone) && !r.opened:
		return nil, nil
	case errors.Is(err, errAlone): // the inner envelope is as the reader must have it
		err = r.deliver()
	case err == nil && !r.opened && len(r.forms) == 0:
		return nil, nil
	case err == nil && !r.opened: // signed at most
		r.out.Result = ResultUnchanged
		return r.finish(), nil
	case err == nil:
		err = r.deliver()
	}
	if errors.As(err, &trouble) {
		r.out.Trouble, r.out.Err = trouble.Why, trouble.Err
		r.out.Result = ResultWrapped + ", " + string(trouble.Why)
		if r.out.Encrypted == "" {
			r.out.Encrypted = "unknown"
		}
		if r.out.Body, err = wrap(ctx, h, b, trouble.Why, r.plain, opt); err == nil {
			r.out.Header, r.out.Start, err = message.ReadHeader(r.out.Body, 1<<20)
		}
	}
	if err != nil {
		if r.out.Body != nil {
			r.out.Body.Close()
		}
		return nil, asError(err)
	}
	return r.finish(), nil
}

// opening is one message while its layers are taken off.
type opening struct {
	*Opener
	ctx context.Context
	opt Options
	out *Opened

	body    *message.Body // what is left to look at, and its index
	x       *message.Index
	part    int             // of x that is the entity
	own     []*message.Body // made here
	opened  bool            // a layer was decrypted
	plain   *message.Body   // what was decrypted, where it may not be shown
	weak    bool
	forms   []string
	ciphers []string
	proved  bool // the innermost encryption was authenticated
	signed  []*Signature
	inner   int // how many of signed stand around the last encryption
}

func (r *opening) close() {
	for _, b := range r.own {
		b.Close()
	}
	r.own = nil
}

// finish says in words what was found.
func (r *opening) finish() *Opened {
	out := r.out
	out.Form = strings.Join(r.forms, "+")
	if len(r.ciphers) > 0 {
		proof := "not authenticated"
		if r.proved {
			proof = "authenticated"
		}
		out.Encrypted = strings.Join(r.ciphers, "+") + ", " + proof
	}
	if s := r.best(); s != nil {
		out.Signature, out.Signed, out.Verified = s, s.By, s.String()
	}
	return out
}

// best is the signature that is told of: the innermost, which is of the text itself, but for one around it that proves more.
func (r *opening) best() (found *Signature) {
	for _, s := range slices.Backward(r.signed) {
		if found == nil || s.good() && !found.good() {
			found = s
		}
	}
	return found
}

// layers goes inwards until the entity is neither encrypted nor signed around something that is.
func (r *opening) layers() error {
	for range maxLayers {
		p := r.x.Parts[r.part]
		var err error
		switch kindOf(r.body, p) {
		case kindEnveloped:
			err = r.decrypt("smime", r.SMIME, message.DecodePart(r.body, p))
		case kindEncrypted:
			var at message.Part
			if at, err = r.pgpPart(); err == nil {
				err = r.decrypt("openpgp", r.OpenPGP, message.DecodePart(r.body, at))
			}
		case kindInline:
			return r.inline(p)
		case kindSigned:
			var within bool
			if within, err = r.verify(); err == nil && !within {
				return nil
			}
		case kindSignedData:
			var within bool
			if within, err = r.unpack(p); err == nil && !within {
				return nil
			}
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	if kindOf(r.body, r.x.Parts[r.part]) != kindOther {
		return &OpenError{TooDeep, fmt.Errorf("more than %d layers", maxLayers)}
	}
	return nil
}

// decrypt opens one layer; what is in it is looked at next.
func (r *opening) decrypt(form string, open func(io.Writer, io.Reader) (Layer, error), in io.Reader) error {
	r.forms = append(r.forms, form)
	if open == nil {
		return errAlone
	}
	var layer Layer
	body, err := r.collect(func(w io.Writer) (err error) {
		layer, err = open(w, in)
		return err
	})
	if layer.Cipher != "" {
		r.ciphers, r.proved = append(r.ciphers, layer.Cipher), layer.Authenticated
	}
	if layer.Key != "" {
		r.out.Key = layer.Key
	}
	if err != nil {
		return err
	}
	r.opened, r.inner, r.weak = true, len(r.signed), r.weak || layer.Weak
	if layer.Signed != nil {
		r.signed = append(r.signed, layer.Signed)
	}
	return r.enter(body)
}

// enter makes body the entity that is looked at.
func (r *opening) enter(body *message.Body) error {
	x, err := message.Parse(body, insideLimits)
	if errors.Is(err, message.ErrHeaderTooLarge) {
		return &OpenError{Malformed, err}
	}
	if err != nil {
		return err
	}
	r.body, r.x, r.part = body, x, 0
	return nil
}

var insideLimits = func() message.Limits {
	l := message.DefaultLimits
	l.Signed, l.Encrypted = true, true
	return l
}()

// contained makes a library's panic on a stranger's bytes the message's own fault.
func contained(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &OpenError{Malformed, fmt.Errorf("panic: %v", p)}
		}
	}()
	return f()
}

// collect keeps what write gives as mail must be: CRLF at each line's end. The reader of the input ends with the context.
func (r *opening) collect(write func(io.Writer) error) (*message.Body, error) {
	w := &entityWriter{w: r.opt.Budget.NewWriter(0), left: r.Limit}
	err := contained(func() error { return write(w) })
	if err == nil {
		err = r.ctx.Err()
	}
	switch {
	case w.err != nil: // ours, whatever the library made of it
		err = w.err
	case err != nil && r.ctx.Err() != nil:
		err = r.ctx.Err()
	}
	if err != nil {
		w.w.Abort()
		return nil, err
	}
	body, err := w.end()
	if err != nil {
		return nil, err
	}
	r.own = append(r.own, body)
	if w.odd {
		r.plain = body
		return nil, &OpenError{Binary, errors.New("it holds NUL or a carriage return alone")}
	}
	return body, nil
}
