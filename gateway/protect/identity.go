package protect

import (
	"mime"
	"net/mail"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// Identity says how a message's header is written anew for the trust space: from a mailbox of ours, with nothing of the clinic's inside.
// The body, and with it every signed part, stays byte for byte.
type Identity struct {
	// From is the author's mailbox with its label; Sender the writer's own, null where he has none or wrote himself.
	From   message.Mailbox
	Sender message.Address
	// Known gives the mailbox of an inner address that other fields name.
	Known func(message.Address) (message.Address, bool)
	// Reachable tells whether a domain is of the trust space: answers are asked to no other.
	Reachable func(domain string) bool
	Names     Names
	IDs       *IDs
	// Keep are globs of further fields that leave (headers.keep).
	Keep []string
	// ID is the Message-ID of a message without one, in brackets. Host is our name in reports.
	ID, Host string
	Now      func() time.Time
}

// what is done with a field that leaves; a field that is not here, nor of X-MSS-*, List-* or headers.keep, stays behind.
type deed int

const (
	asItIs    deed = iota + 1 // if it shows nothing inner, else it stays behind
	bare                      // else its first word leaves
	from                      // written anew
	addresses                 // inner ones become mailboxes or are left out
	answers                   // addresses, of the trust space alone
	subject                   // inner names in it are taken out
	ownID                     // mapped by IDs
	ids                       // each
	date                      // else written anew
	typ                       // else without the parameters that show it
)

var deeds = map[string]deed{
	"from": from, "to": addresses, "cc": addresses, "reply-to": answers, "disposition-notification-to": answers, "subject": subject, "date": date,
	"message-id": ownID, "in-reply-to": ids, "references": ids, "original-message-id": ids,
	"mime-version": bare, "auto-submitted": bare, "precedence": bare, "importance": bare, "priority": bare, "x-priority": bare, "sensitivity": bare,
	"content-type": typ, "content-transfer-encoding": bare, "content-language": bare, "content-disposition": bare, "content-id": asItIs, "content-description": asItIs,
	"content-class": asItIs, "disposition-notification-options": asItIs, "x-msmail-priority": bare, "accept-language": asItIs, "expires": asItIs, "reply-by": asItIs,
	"thread-topic": asItIs, "thread-index": asItIs, strings.ToLower(LoopField): asItIs,
}

func (o *Identity) deed(f message.Field) deed {
	low := strings.ToLower(f.Name)
	switch d := deeds[low]; {
	case d != 0:
		return d
	case low == "":
		return 0
	case strings.HasPrefix(low, "x-mss-"), strings.HasPrefix(low, "list-"), !never[low] && !strings.HasPrefix(low, "x-passerelle-") && matches(low, o.Keep):
		return asItIs
	}
	return 0
}

// Outgoing gives the header that leaves. The list of its fields is closed: what is not known to be harmless stays behind.
func (o *Identity) Outgoing(h message.Header) message.Header { return o.outgoing(h).header() }

func (o *Identity) outgoing(h message.Header) *fields {
	out := o.fields(h, false)
	if !out.has["from"] {
		o.author(out)
	}
	if !out.has["to"] && !out.has["cc"] {
		out.put("To", "undisclosed-recipients:;")
	}
	if !out.has["message-id"] {
		out.put("Message-ID", o.ID)
	}
	if !out.has["date"] {
		out.put("Date", o.now().Format(time.RFC1123Z))
	}
	return out
}

func (o *Identity) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// fields gathers a header: message.Header copies all with each field that it is given.
type fields struct {
	list []message.Field
	has  map[string]bool
}

func (s *fields) keep(f message.Field) {
	s.list, s.has[strings.ToLower(f.Name)] = append(s.list, f), true
}

// put writes a field anew; a value that cannot be one is left out.
func (s *fields) put(name, value string) {
	if raw, err := message.FormatField(name, value); err == nil {
		s.keep(message.Field{Name: name, Raw: raw})
	}
}

func (s *fields) header() (h message.Header) {
	h.AppendRaw(s.list...)
	return h
}

// fields walks the header; returned: it is that of a message that a report gives back, whose author is not ours.
func (o *Identity) fields(h message.Header, returned bool) *fields {
	out := &fields{has: map[string]bool{}}
	for _, f := range h.Fields() {
		v := f.Value()
		d := o.deed(f)
		if d == from && returned {
			d = addresses
		}
		switch d {
		case from:
			if !out.has["from"] {
				o.author(out)
			}
		case addresses, answers:
			o.addresses(out, f, d == answers)
		case subject:
			if o.Names.In(v) {
				out.put(f.Name, encodeWords(o.Names.Scrub(message.DecodeText(v), o.Known)))
			} else {
				out.keep(f)
			}
		case ownID:
			if id := o.IDs.OutsideAll(v); id != "" && !out.has["message-id"] {
				first, _, _ := strings.Cut(id, " ")
				out.put(f.Name, first)
			}
		case ids:
			if v = o.IDs.OutsideAll(v); v != "" {
				out.put(f.Name, v)
			}
		case date:
			o.date(out, f)
		case typ:
			o.contentType(out, f)
		case asItIs, bare:
			if !o.Names.In(v) {
				out.keep(f)
			} else if word := firstWord(v); d == bare && word != "" && !o.Names.In(word) {
				out.put(f.Name, word)
			}
		}
	}
	return out
}

func (o *Identity) author(out *fields) {
	out.put("From", o.From.String())
	if !o.Sender.IsNull() && o.Sender.Key() != o.From.Address.Key() {
		out.put("Sender", "<"+o.Sender.String()+">")
	}
}

// addresses writes a field that names people. What cannot be read stays behind: what a reader makes of it is not known.
func (o *Identity) addresses(out *fields, f message.Field, reachable bool) {
	v := f.Value()
	list, err := message.ParseMailboxes(v)
	if err != nil {
		return
	}
	changed := o.Names.In(v)
	var kept []string
	seen := map[string]bool{}
	for _, m := range list {
		if o.Names.Address(m.Address) {
			changed = true
			box, ok := o.Known(m.Address)
			if !ok {
				continue
			}
			m.Address = box
		}
		if reachable && !o.Reachable(m.Address.Domain) {
			changed = true
			continue
		}
		if o.Names.In(m.Name) {
			m.Name = ""
		}
		if s := m.String(); !o.Names.In(s) && !seen[m.Address.Key()] {
			seen[m.Address.Key()] = true
			kept = append(kept, s)
		}
	}
	switch {
	case !changed:
		out.keep(f)
	case len(kept) > 0:
		out.put(f.Name, strings.Join(kept, ", "))
	}
}

func (o *Identity) date(out *fields, f message.Field) {
	if out.has["date"] {
		return
	}
	if !o.Names.In(f.Value()) {
		out.keep(f)
		return
	}
	if t, err := mail.ParseDate(f.Value()); err == nil {
		out.put("Date", t.Format(time.RFC1123Z))
	}
}

// contentType leaves out parameters that show something inner. The boundary is part of the body, which stays as it is: it alone may show a
// host of the clinic, where its mail programs write such boundaries.
func (o *Identity) contentType(out *fields, f message.Field) {
	v := f.Value()
	t, params, err := mime.ParseMediaType(v)
	bad := o.Names.In(v)
	for k, p := range params {
		if k != "boundary" && (o.Names.In(p) || o.Names.In(k)) {
			bad = true
			delete(params, k)
		}
	}
	switch {
	case !bad:
		out.keep(f)
	case err == nil && !o.Names.In(t):
		out.put(f.Name, mime.FormatMediaType(t, params))
	}
}

func firstWord(v string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(v), ";")
	w, _, _ = strings.Cut(w, "(")
	w, _, _ = strings.Cut(strings.TrimSpace(w), " ")
	return w
}

// Incoming maps what a message from the trust space says of our mailboxes and of our ids back to what the clinic knows, and tells
// whether it changed anything. All else stays as it came.
func Incoming(h *message.Header, internal func(message.Address) (message.Address, bool), x *IDs) (changed bool) {
	out := make([]message.Field, 0, len(h.Fields()))
	same := func(s string) string { return s }
	rewrite := func(f message.Field, v string) {
		if raw, err := message.FormatField(f.Name, v); err == nil {
			f.Raw, changed = raw, true
		}
		out = append(out, f)
	}
	for _, f := range h.Fields() {
		v := f.Value()
		switch strings.ToLower(f.Name) {
		case "to", "cc":
			if s, mapped := inward(v, internal); mapped {
				rewrite(f, s)
				continue
			}
		case "message-id":
			if s := eachID(v, x.Theirs); s != eachID(v, same) {
				rewrite(f, s)
				continue
			}
		case "in-reply-to", "references":
			if s := x.InsideAll(v); s != eachID(v, same) {
				rewrite(f, s)
				continue
			}
		}
		out = append(out, f)
	}
	if changed {
		*h = message.Header{}
		h.AppendRaw(out...)
	}
	return changed
}

func inward(v string, internal func(message.Address) (message.Address, bool)) (string, bool) {
	list, err := message.ParseMailboxes(v)
	if err != nil {
		return "", false
	}
	mapped := false
	all := make([]string, len(list))
	for i, m := range list {
		if a, ok := internal(m.Address); ok {
			m.Address, mapped = a, true
		}
		all[i] = m.String()
	}
	return strings.Join(all, ", "), mapped
}
