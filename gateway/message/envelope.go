package message

// Envelope is what MAIL and RCPT said of a message.
type Envelope struct {
	// Client names who handed the message in: the IP address, or the subject of its certificate. It keys the retry memory.
	Client string
	// Helo is the name that the client gave itself.
	Helo string
	// Protocol is how it came, as a trace field says it (RFC 3848): "LMTP", "ESMTPS" and so on; "" is ESMTP.
	Protocol string
	// Sender is the reverse-path, null for reports.
	Sender     Address
	Recipients []Recipient
	// EightBit: BODY=8BITMIME (RFC 6152). SMTPUTF8: RFC 6531. RequireTLS: RFC 8689.
	EightBit, SMTPUTF8, RequireTLS bool
	// Ret ("FULL", "HDRS" or "") and EnvID (decoded) are those of RFC 3461 section 4.3 and 4.4.
	Ret, EnvID string
	// ID is ours: it names the message in the log, the ledger and the trace header.
	ID string
}

// Recipient is one forward-path with its RFC 3461 parameters.
type Recipient struct {
	Address
	// Raw is the path as it was written between < and >; the retry memory tells spellings apart by it.
	Raw string
	// Notify holds NEVER, or any of SUCCESS, FAILURE, DELAY; nil where nothing was said.
	Notify []string
	// ORcpt is "type;address" with the address decoded, or "".
	ORcpt string
}
