// Package config reads the operator's file. It takes one YAML file and the environment, gives a Config whose every value was
// checked or the list of all its faults with their positions, and knows nothing of sockets, messages or rooms.
package config

import (
	"time"

	"passerelle/policy"
)

// Config is the operator's file. An empty string means "not set" everywhere, so that `${NAME:-}` switches a thing off.
type Config struct {
	// Mode is enforce, or observe: decide and note everything, send everything unchanged.
	Mode string `yaml:"mode"`
	// Hostname is our name in greetings, Received fields and reports; "" is passerelle.<first clinic domain>.
	Hostname string `yaml:"hostname"`
	// StateDir holds the database, the sealed deposits and, without key_file, the server key.
	StateDir string `yaml:"state_dir"`
	Log      Log    `yaml:"log"`
	// KeyFile is the server key, outside the state folder; "" makes state_dir/server.key at the first start.
	KeyFile    string         `yaml:"key_file"`
	Clinic     Clinic         `yaml:"clinic"`
	Listen     Listen         `yaml:"listen"`
	Recipients Recipients     `yaml:"recipients"`
	Limits     Limits         `yaml:"limits"`
	Hops       map[string]Hop `yaml:"hops"`
	Relay      Relay          `yaml:"relay"`
	Trust      TrustSpace     `yaml:"trust"`
	Inbound    Inbound        `yaml:"inbound"`
	// Collect are the clinic's mailboxes at its MSSanté operator whose new mail is brought to hops.clinic.
	Collect   []Collect `yaml:"collect"`
	Directory Directory `yaml:"directory"`
	Encrypt   Encrypt   `yaml:"encrypt"`
	Pickup    Pickup    `yaml:"pickup"`
	SMS       SMS       `yaml:"sms"`
	Headers   Headers   `yaml:"headers"`
	// Sign is how mail of the clinic's people is signed with Keys.
	Sign Sign `yaml:"sign"`
	// DKIM are the keys that sign what leaves for the Internet; none where the Postfix behind hops.internet signs.
	DKIM []DKIM `yaml:"dkim"`
	// Keys are the clinic's private keys for S/MIME and OpenPGP.
	Keys  []OwnKey      `yaml:"keys"`
	Rules []policy.Rule `yaml:"rules"`
	// Expect are the operator's own tests of the rules, run by `passerelle check`.
	Expect []policy.Expectation `yaml:"expect"`

	// Policy is Rules, compiled; Load sets it.
	Policy *policy.Policy `yaml:"-"`
}

// Log says how much is logged.
type Log struct {
	Level string `yaml:"level"` // debug, info, warn, error
}

// Clinic is whose mail this is.
type Clinic struct {
	// Name and Phone stand on the patient's pages and in notices; "" is the first clinic domain, and no number to call.
	Name  string `yaml:"name"`
	Phone string `yaml:"phone"`
	// Domains are the clinic's own mail domains: mail for them is handed back unchanged.
	Domains []string `yaml:"domains"`
	// Networks may send to the lmtp and smtp listeners: prefixes or single addresses.
	Networks []string `yaml:"networks"`
	// QueueLifetime is the clinic server's own (Postfix: maximal_queue_lifetime), 7 days at most; the gateway gives up shortly before.
	QueueLifetime Duration `yaml:"queue_lifetime"`
	// Postmaster is told what no sender can be told; "" is postmaster@<first clinic domain>.
	Postmaster string `yaml:"postmaster"`
}

// Listen are our own doors. A door with an empty addr is shut.
type Listen struct {
	LMTP    ListenLMTP    `yaml:"lmtp"`
	SMTP    ListenSMTP    `yaml:"smtp"`
	Trust   ListenTrust   `yaml:"trust"`
	Portal  ListenPortal  `yaml:"portal"`
	Metrics ListenMetrics `yaml:"metrics"`
	// Addressbook and LDAP show the directory to the people who write.
	Addressbook ListenAddressbook `yaml:"addressbook"`
	LDAP        ListenLDAP        `yaml:"ldap"`
}

// ListenLMTP is the clinic's door in LMTP: one reply per recipient.
type ListenLMTP struct {
	Addr string `yaml:"addr"`
	// TLSDir holds cert.pem and key.pem.
	TLSDir string `yaml:"tls_dir"`
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	// ClientCA: clients must show a certificate that it signed.
	ClientCA string `yaml:"client_ca"`
	// RequireTLS refuses MAIL before STARTTLS.
	RequireTLS bool `yaml:"require_tls"`
	// ImplicitTLS: the client begins with TLS; nothing is said in clear and STARTTLS is not offered.
	ImplicitTLS bool `yaml:"implicit_tls"`
}

// ListenSMTP is the clinic's door in SMTP.
type ListenSMTP struct {
	Addr string `yaml:"addr"`
	// TLSDir holds cert.pem and key.pem.
	TLSDir string `yaml:"tls_dir"`
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	// ClientCA: clients must show a certificate that it signed.
	ClientCA string `yaml:"client_ca"`
	// RequireTLS refuses MAIL before STARTTLS.
	RequireTLS bool `yaml:"require_tls"`
	// ImplicitTLS: the client begins with TLS; nothing is said in clear and STARTTLS is not offered.
	ImplicitTLS bool `yaml:"implicit_tls"`
}

// ListenTrust is the door to the trust space; its certificates are those of trust.
type ListenTrust struct {
	Addr string `yaml:"addr"`
}

// ListenPortal is the patient's door. Without a certificate it speaks plain HTTP, for use behind a proxy.
type ListenPortal struct {
	Addr   string     `yaml:"addr"`
	TLSDir string     `yaml:"tls_dir"` // holds cert.pem and key.pem
	Cert   string     `yaml:"cert"`
	Key    string     `yaml:"key"`
	ACME   PortalACME `yaml:"acme"`
}

// ListenMetrics is the operator's door: metrics, health and console.
type ListenMetrics struct {
	Addr string `yaml:"addr"`
}

// ListenAddressbook is the search page for the people who write, on the clinic's network: no login, few answers at a time.
type ListenAddressbook struct {
	Addr string `yaml:"addr"`
	// Networks may search; none is clinic.networks.
	Networks []string `yaml:"networks"`
	TLSDir   string   `yaml:"tls_dir"` // holds cert.pem and key.pem
	Cert     string   `yaml:"cert"`
	Key      string   `yaml:"key"`
}

// ListenLDAP is the same for Outlook and Thunderbird: an address book that is read only. With a certificate it offers StartTLS.
type ListenLDAP struct {
	Addr string `yaml:"addr"`
	// Networks may search; none is clinic.networks.
	Networks []string `yaml:"networks"`
	// Base is the distinguished name that mail programs search below.
	Base   string `yaml:"base"`
	TLSDir string `yaml:"tls_dir"` // holds cert.pem and key.pem
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	// ImplicitTLS is LDAPS: the client begins with TLS.
	ImplicitTLS bool `yaml:"implicit_tls"`
}

// Recipients narrows who may be written to.
type Recipients struct {
	// Domains, where set, are the only ones that RCPT accepts; the clinic's own must be among them if they are to pass.
	Domains []string `yaml:"domains"`
}

// Limits are what one message, one client and the whole may take.
type Limits struct {
	Message           Size     `yaml:"message"`             // largest message
	Memory            Size     `yaml:"memory"`              // shared by all in hand, messages and work; beyond it messages go to encrypted temp files and work waits
	Spill             Size     `yaml:"spill"`               // all those temp files together; beyond it 452
	Recipients        int      `yaml:"recipients"`          // of one message
	Received          int      `yaml:"received"`            // Received fields before a message is a loop
	Sessions          int      `yaml:"sessions"`            // at once, of each listener; more wait for their greeting
	SessionsPerClient int      `yaml:"sessions_per_client"` // at once, of one IPv4 address or IPv6 /64; more wait
	Idle              Duration `yaml:"idle"`                // a silent session is closed
}

// Hop is a next hop by name. "clinic" and "internet" have a meaning of their own; rules may name others.
type Hop struct {
	Addr string `yaml:"addr"` // host:port
	// TLS is none, opportunistic, encrypt (any certificate) or verify.
	TLS string `yaml:"tls"`
	// CA verifies the hop's certificate in the place of the system's roots.
	CA string `yaml:"ca"`
	// ServerName is the name in the certificate; "" is the host of addr.
	ServerName string `yaml:"server_name"`
	// Cert and Key are what we show to a hop that asks who we are: PEM files, our chain and its key. Both or neither.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	LMTP bool   `yaml:"lmtp"`
	// Domains are partners' domains, or all below one (*.chu.example): every letter that would go to them over the Internet goes by
	// this hop and no other, over TLS that is verified, or waits. A rule's own hop wins over it.
	Domains []string `yaml:"domains"`
	// MaxConns is how many connections may be open at once; 0 is the relay's default.
	MaxConns int `yaml:"max_conns"`
}

// Relay says how long handing on may hold a client.
type Relay struct {
	// Timeout is the longest that handing on a message holds its session; what is not done by then is answered 451 and goes on behind
	// the reply. 1s to 5m: the clinic's server waits ten minutes in all (docs/operations.md).
	Timeout Duration `yaml:"timeout"`
	// SlowAfter makes a hop's letter count as slow: a quarter of a client's sessions at most wait longer for one hop.
	// More than timeout means timeout.
	SlowAfter Duration `yaml:"slow_after"`
}

// Directory is who is asked about a recipient.
type Directory struct {
	// Extraction is the national directory's public extraction of MSSanté mailboxes; its folder must exist.
	Extraction string `yaml:"extraction"`
	// Fetch downloads the extraction.
	Fetch DirectoryFetch `yaml:"fetch"`
	// MaxAge makes an older extraction "could not ask".
	MaxAge Duration `yaml:"max_age"`
	// AlarmAge is the age of the extraction at which the operator is told: an alarm, nothing else.
	AlarmAge Duration `yaml:"alarm_age"`
	// List is the clinic's own list of correspondents.
	List string `yaml:"list"`
	// Precedence names the sources that are asked, extraction, fhir and ldap; where they contradict each other the first wins. Empty: all
	// that are configured, and the newer wins.
	Precedence []string `yaml:"precedence"`
	// KnownAs is what is done where somebody written to at an ordinary address has an MSSanté mailbox: off, suggest (the sender is told),
	// redirect (links that the list confirms are followed, the rest is suggested).
	KnownAs string `yaml:"known_as"`
	// FHIR is the national directory's API, which knows more than the extraction and knows it earlier.
	FHIR FHIR `yaml:"fhir"`
	// LDAP is a clinic's or a region's own directory.
	LDAP LDAP `yaml:"ldap"`
}

// DirectoryFetch is where the extraction is downloaded from. A file that is not taken leaves the mirror in use as it is.
type DirectoryFetch struct {
	// URL of the file, ZIP or text; empty is off. https alone.
	URL string `yaml:"url"`
	// Every is the time from one look to the next; after a failure it is tried again from a minute on, ever more slowly.
	Every Duration `yaml:"every"`
	// CA is a PEM file with the only authorities that are believed, IGC-Santé for the national service; empty: the system's.
	CA string `yaml:"ca"`
	// RedirectHosts are hosts beside the URL's own that the server may send us on to.
	RedirectHosts []string `yaml:"redirect_hosts"`
	// Shrink is the share of lines or mailboxes that a new file may lack against the mirror in use.
	Shrink Percent `yaml:"shrink"`
}

// Encrypt is for correspondents outside the trust space who can decrypt.
type Encrypt struct {
	// Subject is the outer subject of an encrypted message.
	Subject string `yaml:"subject"`
	// KeepSubject leaves the sender's own subject outside, where every server on the way reads it.
	KeepSubject bool `yaml:"keep_subject"`
	// Scope is what is sealed where a rule names none: message, or attachments; the text then stays readable.
	Scope string `yaml:"scope"`
	// Limits are how large a sealed message may be; over them the next form of the ladder is taken, and pickup at its end.
	Limits EncryptLimits `yaml:"limits"`
	// Keys are armoured OpenPGP key files by address or by @domain.
	Keys map[string]string `yaml:"keys"`
	// MinTrust is how sure a key of the keyring must be to be sealed to: seen (it came in mail that it signed), discovered (the domain's own
	// server told it: WKD, LDAP), verified (a certificate whose chain was verified), confirmed (the operator said so).
	MinTrust string       `yaml:"min_trust"`
	SMIME    EncryptSMIME `yaml:"smime"`
	WKD      WKD          `yaml:"wkd"`
	// Harvest is off, or verified: certificates of signed mail that arrives from outside go to the keyring, where the signature and the chain to
	// encrypt.smime.roots were verified.
	Harvest string     `yaml:"harvest"`
	PDF     EncryptPDF `yaml:"pdf"`
	// Unclear is what happens, on encrypt and pickup, to a message that mail programs may take apart differently: seal (all of it as one
	// message.eml) or refuse (the sender is told to write it anew).
	Unclear string `yaml:"unclear"`
}

// EncryptLimits are sizes as transferred, by form; 0 is no limit.
type EncryptLimits struct {
	SMIME   Size `yaml:"smime"`
	OpenPGP Size `yaml:"openpgp"`
	ZIP     Size `yaml:"zip"`
	PDF     Size `yaml:"pdf"`
}

// ByForm gives the limits by the names of the forms.
func (l EncryptLimits) ByForm() map[string]Size {
	return map[string]Size{policy.FormSMIME: l.SMIME, policy.FormOpenPGP: l.OpenPGP, policy.FormZIP: l.ZIP, policy.FormPDF: l.PDF}
}

// EncryptPDF is for those whose entry in the list, or a rule, asks for form: pdf.
type EncryptPDF struct {
	// Mode is each (one PDF of the text, every PDF of the message beside it) or whole (one PDF that holds all files).
	Mode string `yaml:"mode"`
}

// EncryptSMIME is for those whose certificate the clinic's list or the keyring holds.
type EncryptSMIME struct {
	// Cipher is auto, gcm or cbc. gcm is AES-256-GCM and, for RSA keys, OAEP: OpenSSL 3 opens it, Thunderbird 102 and GnuPG 2.2 do not. cbc
	// is AES-256-CBC, which everybody opens. auto is gcm where the certificate announces both (RFC 4262), else cbc.
	Cipher string `yaml:"cipher"`
	// Roots are PEM files of authorities: a certificate without a chain to one of them is not sealed to. Without any, chains are not judged.
	Roots      []string        `yaml:"roots"`
	Revocation SMIMERevocation `yaml:"revocation"`
}

// SMS is the provider's HTTP interface.
type SMS struct {
	URL     Secret            `yaml:"url"` // some providers want their key in it
	Method  string            `yaml:"method"`
	Headers map[string]Secret `yaml:"headers"`
	// Body is a text/template over .To and .Text; {{.Text | json}} quotes for JSON.
	Body        Secret    `yaml:"body"`
	ContentType string    `yaml:"content_type"`
	Timeout     Duration  `yaml:"timeout"`
	Credit      SMSCredit `yaml:"credit"`
}

// Headers says which of a message's header fields may leave.
type Headers struct {
	// Keep are names of own fields (globs) that pass to the outside: X-Dossier-*.
	Keep []string `yaml:"keep"`
}

// DKIM is one key of one domain; a domain with several gets as many signatures.
type DKIM struct {
	// Domain is the author's (From), and no domain below it.
	Domain string `yaml:"domain"`
	// Selector is the name below _domainkey at which the public key is published.
	Selector string `yaml:"selector"`
	// Key is a file: PEM, RSA of 2048 to 4096 bits or Ed25519; "" switches the entry off.
	Key string `yaml:"key"`
}

// Default gives the values of everything that the file does not set.
func Default() *Config {
	return &Config{
		Mode:     "enforce",
		StateDir: "/var/lib/passerelle",
		Log:      Log{Level: "info"},
		Clinic: Clinic{
			Networks:      []string{"127.0.0.0/8", "::1/128"},
			QueueLifetime: Duration(5 * day), // Postfix's own default
		},
		Listen: Listen{
			LMTP:    ListenLMTP{Addr: "127.0.0.1:10024"},
			SMTP:    ListenSMTP{Addr: "127.0.0.1:10025"},
			Portal:  ListenPortal{Addr: ":8443", ACME: PortalACME{CA: letsEncrypt}},
			Metrics: ListenMetrics{Addr: "127.0.0.1:9464"},
			LDAP:    ListenLDAP{Base: "o=annuaire"},
		},
		Limits: Limits{
			Message: 50 << 20, Memory: 64 << 20, Spill: 2 << 30, Recipients: 1000, Received: 100,
			Sessions: 1000, SessionsPerClient: 500, Idle: Duration(5 * time.Minute), // RFC 5321 section 4.5.3.2.7
		},
		Relay: Relay{Timeout: Duration(30 * time.Second), SlowAfter: Duration(5 * time.Second)},
		Trust: TrustSpace{WhiteList: defaultWhiteList(), Port: 25, Documents: TrustDocuments{Check: "note"}, Patients: TrustPatients{NoMailbox: []string{"5.1.1", "5.1.10", "5.2.1"}}, ListedUnverified: policy.Trust, PatientDomain: "patient.mssante.fr",
			Submission: Submission{TLS: "starttls", Auth: "external", MaxConns: 5}, Identities: Identities{Verify: "off"}, Revocation: defaultRevocation()},
		Directory: Directory{MaxAge: Duration(21 * day), AlarmAge: Duration(2 * day), KnownAs: "off", FHIR: defaultFHIR(), LDAP: defaultLDAP(),
			Fetch: DirectoryFetch{Every: Duration(6 * time.Hour), Shrink: 20}},
		Inbound: Inbound{Decrypt: InboundDecrypt{Mode: "auto"}},
		Sign:    Sign{SMIME: SignSMIME{XDM: "leave"}},
		Encrypt: defaultEncrypt(),
		Pickup:  defaultPickup(),
		SMS: SMS{
			Method: "POST", ContentType: "application/json", Timeout: Duration(10 * time.Second),
			Body:   `{"to": {{.To | json}}, "text": {{.Text | json}}}`,
			Credit: SMSCredit{Below: 100},
		},
	}
}

// defaultHop holds what a hop takes for granted: TLS where the other side offers it.
func defaultHop() Hop { return Hop{TLS: "opportunistic"} }
