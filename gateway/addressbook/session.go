package addressbook

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"passerelle/gateway/message"
)

// maxMessage bounds one request, in octets: a search is some hundreds.
const maxMessage = 16 << 10

// session is one client's connection. Requests are answered one after the other: to abandon one has nothing to end.
type session struct {
	*Server
	client netip.Addr
	conn   net.Conn // TLS once that was begun
	in     *bufio.Reader
	secure bool
}

func (s *Server) session(ctx context.Context, conn net.Conn, client netip.Addr) {
	c := &session{Server: s, client: client, conn: conn}
	if s.cfg.ImplicitTLS && c.handshake(ctx) != nil {
		return
	}
	c.in = bufio.NewReaderSize(c.conn, 4096)
	for ctx.Err() == nil {
		c.conn.SetReadDeadline(time.Now().Add(s.cfg.Idle))
		if _, err := c.in.Peek(1); err != nil {
			return
		}
		if !within(c.cfg.Book().cfg.LDAPNetworks, client) { // a reload shut this network out
			searches.WithLabelValues("ldap", "refused").Inc()
			return
		}
		c.conn.SetReadDeadline(time.Now().Add(s.cfg.Step)) // for all of a request that was begun
		raw, err := readMessage(c.in, maxMessage)
		var r request
		if err == nil {
			r, err = parseRequest(raw)
		}
		if errors.Is(err, errBER) {
			c.disconnect("malformed or too large")
			return
		}
		if err != nil || !c.answer(ctx, r) {
			return
		}
	}
}

// disconnect says why the connection ends (RFC 4511 section 4.4.1).
func (c *session) disconnect(why string) {
	c.send(reply(0, result(opExtendedReply, protocolError, why, tlv(0x8a, []byte(oidDisconnect))), nil))
}

func (c *session) send(b []byte) bool {
	c.conn.SetWriteDeadline(time.Now().Add(c.cfg.Step))
	_, err := c.conn.Write(b)
	return err == nil
}

// answer answers one request, and tells whether the connection goes on.
func (c *session) answer(ctx context.Context, r request) bool {
	var response byte
	switch r.op {
	case opUnbind:
		return false
	case opAbandon:
		return true
	case opBind:
		return c.send(reply(r.id, c.bind(r.body), nil))
	case opSearch:
		return c.search(ctx, r)
	case opExtended:
		return c.extended(ctx, r)
	case opModify:
		response = opModifyResponse
	case opAdd:
		response = opAddResponse
	case opDelete:
		response = opDeleteResponse
	case opRename:
		response = opRenameResponse
	case opCompare:
		response = opCompareDone
	default:
		c.disconnect("no such operation")
		return false
	}
	return c.send(reply(r.id, result(response, unwilling, "read only"), nil))
}

// bind lets anonymous clients in, and no others. A password is refused, not ignored: a server that takes any teaches mail programs to send
// real ones over the network. Not as invalidCredentials, at which they would ask their user for another. A name without a password is
// refused as RFC 4513 section 5.1.2 wants it.
func (c *session) bind(b ber) []byte {
	version, err := b.number(tagInt)
	if err != nil {
		return result(opBindResponse, protocolError, "malformed")
	}
	name, err := b.text(tagOctets)
	if err != nil {
		return result(opBindResponse, protocolError, "malformed")
	}
	method, password, err := b.next()
	switch {
	case err != nil:
		return result(opBindResponse, protocolError, "malformed")
	case version != 3:
		return result(opBindResponse, protocolError, "LDAPv3 only")
	case method != 0x80:
		return result(opBindResponse, authNotSupported, "anonymous only")
	case len(password) > 0 || name != "":
		return result(opBindResponse, unwilling, "no accounts here: leave user name and password empty")
	}
	return result(opBindResponse, success, "")
}

// extended knows StartTLS (RFC 4511 section 4.14). What the client sent behind it in clear would be read as if it had come under TLS:
// then the connection ends.
func (c *session) extended(ctx context.Context, r request) bool {
	name, err := r.body.text(0x80)
	if err != nil {
		c.disconnect("malformed")
		return false
	}
	if name != oidStartTLS {
		return c.send(reply(r.id, result(opExtendedReply, protocolError, "no such operation"), nil))
	}
	oid := tlv(0x8a, []byte(oidStartTLS))
	switch {
	case c.cfg.TLS == nil:
		return c.send(reply(r.id, result(opExtendedReply, unavailable, "no certificate is set", oid), nil))
	case c.secure:
		return c.send(reply(r.id, result(opExtendedReply, operationsError, "TLS is there already", oid), nil))
	case c.in.Buffered() > 0:
		c.disconnect("octets behind StartTLS")
		return false
	}
	if !c.send(reply(r.id, result(opExtendedReply, success, "", oid), nil)) || c.handshake(ctx) != nil {
		return false
	}
	c.in.Reset(c.conn)
	return true
}

func (c *session) handshake(ctx context.Context) error {
	c.conn.SetDeadline(time.Now().Add(c.cfg.Step))
	t := tls.Server(c.conn, c.cfg.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.conn, c.secure = t, true
	return c.conn.SetDeadline(time.Time{})
}

// search answers a search: its entries, then how it ended.
func (c *session) search(ctx context.Context, r request) bool {
	s, err := parseSearch(r.body)
	if errors.Is(err, errFilter) {
		return c.done(r.id, adminLimitExceeded, "filter too deep or too large", nil)
	}
	if err != nil {
		c.disconnect("malformed search")
		return false
	}
	max, paged := MaxFound, false
	if s.size > 0 {
		max = min(max, s.size)
	}
	for _, k := range r.controls {
		size, cookie, err := pagedControl(k)
		switch {
		case k.oid == oidPaged && err == nil && cookie: // we gave none
			return c.done(r.id, unwilling, "there is no next page", nil)
		case k.oid == oidPaged && err == nil:
			if paged = true; size > 0 {
				max = min(max, size)
			}
		case k.critical:
			return c.done(r.id, unavailableCritical, "control not known", nil)
		}
	}
	var page []byte
	if paged { // the only one
		page = tlv(tagSequence, octets(oidPaged), tlv(tagOctets, tlv(tagSequence, number(tagInt, 0), octets(""))))
	}
	if s.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.time)*time.Second)
		defer cancel()
	}
	entries, code, text := c.cfg.Book().directory(ctx, c.client, s, max, c.cfg.TLS != nil && !c.secure)
	for _, e := range entries {
		if !c.send(reply(r.id, e.encode(s.attributes, s.typesOnly), nil)) {
			return false
		}
	}
	return c.done(r.id, code, text, page)
}

func (c *session) done(id, code int, text string, controls []byte) bool {
	return c.send(reply(id, result(opSearchDone, code, text), controls))
}

// pagedControl reads a control for paged results (RFC 2696); cookie tells that it asks for a further page.
func pagedControl(k control) (size int, cookie bool, err error) {
	v, err := k.value.want(tagSequence)
	if err != nil {
		return 0, false, err
	}
	if size, err = v.number(tagInt); err != nil {
		return 0, false, err
	}
	text, err := v.text(tagOctets)
	return size, text != "", err
}

// directory answers a search over the few entries that the server knows by itself, or over the mailboxes.
func (b *Book) directory(ctx context.Context, client netip.Addr, s searchRequest, max int, startTLS bool) (found []ldapEntry, code int, text string) {
	base := normalDN(s.base)
	switch {
	case s.scope == 0 && base == "":
		return only(rootDSE(b.cfg.Base, startTLS), s)
	case s.scope == 0 && base == normalDN(subschemaDN):
		return only(subschema(), s)
	case s.scope == 0 && base == b.base:
		return only(baseEntry(b.cfg.Base), s)
	case base == "" || base == b.base: // a client without a base means all that there is
	default:
		return b.one(ctx, client, s, base)
	}
	queries, err := s.filter.queries()
	switch {
	case errors.Is(err, errDump):
		searches.WithLabelValues("ldap", "refused").Inc()
		return nil, adminLimitExceeded, "no lists: search for a name"
	case errors.Is(err, errShort): // there are more than may be shown: mail programs take this calmly, and ask again with the next letter
		searches.WithLabelValues("ldap", "short").Inc()
		return nil, sizeLimitExceeded, "three letters at least"
	case len(queries) == 0: // no entry has what it asks for
		return nil, success, ""
	}
	return b.people(ctx, client, s, queries, max)
}

func (b *Book) people(ctx context.Context, client netip.Addr, s searchRequest, queries []string, max int) (found []ldapEntry, code int, text string) {
	mailboxes, more, err := b.search(ctx, "ldap", client, queries, max, func(m []Entry) bool { return s.filter.holds(newEntry(m, b.cfg.Base)) == yes })
	switch {
	case errors.Is(err, errBusy):
		return nil, busy, "too many searches, wait a little"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, timeLimitExceeded, ""
	case err != nil:
		return nil, unavailable, "the directory cannot be asked now"
	}
	for _, m := range mailboxes {
		found = append(found, newEntry(m, b.cfg.Base))
	}
	if more {
		return found, sizeLimitExceeded, "there are more: type more letters"
	}
	return found, success, ""
}

// one reads a mailbox again by the distinguished name that we gave it.
func (b *Book) one(ctx context.Context, client netip.Addr, s searchRequest, base string) ([]ldapEntry, int, string) {
	rdn, ok := strings.CutSuffix(base, ","+b.base)
	value, isMail := strings.CutPrefix(rdn, "mail=")
	if !ok || !isMail {
		return nil, noSuchObject, ""
	}
	address, ok := unescapeDN(value)
	if !ok {
		return nil, invalidDNSyntax, ""
	}
	if _, err := message.ParseAddress(address, true); err != nil || s.scope == 1 {
		return nil, noSuchObject, ""
	}
	found, code, text := b.people(ctx, client, s, []string{address}, 1)
	exact := found[:0]
	for _, e := range found {
		if strings.EqualFold(e.get("mail")[0], address) {
			exact = append(exact, e)
		}
	}
	return exact, code, text
}

// only gives one entry of the server's own where the filter holds for it.
func only(e ldapEntry, s searchRequest) ([]ldapEntry, int, string) {
	if s.filter.holds(e) != yes {
		return nil, success, ""
	}
	return []ldapEntry{e}, success, ""
}
