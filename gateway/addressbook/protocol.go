package addressbook

// Tags of operations (RFC 4511 section 4.2 and on).
const (
	opBind, opBindResponse      = 0x60, 0x61
	opUnbind                    = 0x42
	opSearch, opSearchEntry     = 0x63, 0x64
	opSearchDone                = 0x65
	opModify, opModifyResponse  = 0x66, 0x67
	opAdd, opAddResponse        = 0x68, 0x69
	opDelete, opDeleteResponse  = 0x4a, 0x6b
	opRename, opRenameResponse  = 0x6c, 0x6d
	opCompare, opCompareDone    = 0x6e, 0x6f
	opAbandon                   = 0x50
	opExtended, opExtendedReply = 0x77, 0x78
)

// Result codes (RFC 4511 appendix A).
const (
	success             = 0
	operationsError     = 1
	protocolError       = 2
	timeLimitExceeded   = 3
	sizeLimitExceeded   = 4
	authNotSupported    = 7
	adminLimitExceeded  = 11
	unavailableCritical = 12
	noSuchObject        = 32
	invalidDNSyntax     = 34
	busy                = 51
	unavailable         = 52
	unwilling           = 53
)

const (
	oidStartTLS   = "1.3.6.1.4.1.1466.20037"
	oidDisconnect = "1.3.6.1.4.1.1466.20036"
	oidPaged      = "1.2.840.113556.1.4.319" // RFC 2696
)

// request is one LDAPMessage.
type request struct {
	id       int
	op       byte
	body     ber
	controls []control
}

type control struct {
	oid      string
	critical bool
	value    ber
}

const maxControls = 16

func parseRequest(b ber) (r request, err error) {
	if r.id, err = b.number(tagInt); err != nil {
		return r, err
	}
	if r.op, r.body, err = b.next(); err != nil || len(b) == 0 {
		return r, err
	}
	list, err := b.want(0xa0)
	if err != nil || len(b) > 0 {
		return r, errBER
	}
	for len(list) > 0 {
		body, err := list.want(tagSequence)
		if err != nil || len(r.controls) == maxControls {
			return r, errBER
		}
		var c control
		if c.oid, err = body.text(tagOctets); err != nil {
			return r, err
		}
		if len(body) > 0 && body[0] == tagBool {
			if c.critical, err = body.boolean(); err != nil {
				return r, err
			}
		}
		if len(body) > 0 {
			if c.value, err = body.want(tagOctets); err != nil {
				return r, err
			}
		}
		r.controls = append(r.controls, c)
	}
	return r, nil
}

// searchRequest is what a search asks for.
type searchRequest struct {
	base       string
	scope      int // 0 base, 1 one level, 2 subtree
	size, time int // limits of the client, 0 is none; time in seconds
	typesOnly  bool
	filter     *filter
	attributes []string
}

const maxAttributes = 200

func parseSearch(b ber) (s searchRequest, err error) {
	if s.base, err = b.text(tagOctets); err != nil {
		return s, err
	}
	if s.scope, err = b.number(tagEnum); err != nil {
		return s, err
	}
	if _, err = b.number(tagEnum); err != nil { // aliases: there are none
		return s, err
	}
	if s.size, err = b.number(tagInt); err != nil {
		return s, err
	}
	if s.time, err = b.number(tagInt); err != nil {
		return s, err
	}
	if s.typesOnly, err = b.boolean(); err != nil {
		return s, err
	}
	if s.filter, err = parseFilter(&b); err != nil {
		return s, err
	}
	list, err := b.want(tagSequence)
	if err != nil || s.scope > 2 {
		return s, errBER
	}
	for len(list) > 0 {
		a, err := list.text(tagOctets)
		if err != nil || len(s.attributes) == maxAttributes {
			return s, errBER
		}
		s.attributes = append(s.attributes, a)
	}
	return s, nil
}

// reply writes one LDAPMessage.
func reply(id int, op []byte, controls []byte) []byte {
	if controls != nil {
		controls = tlv(0xa0, controls)
	}
	return tlv(tagSequence, number(tagInt, id), op, controls)
}

// result writes an LDAPResult with a text for the operator's eyes, and further elements.
func result(op byte, code int, text string, more ...[]byte) []byte {
	return tlv(op, append([][]byte{number(tagEnum, code), octets(""), octets(text)}, more...)...)
}
