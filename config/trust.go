package config

import "passerelle/policy"

// TrustSpace is the clinic's place in the MSSanté trust space.
type TrustSpace struct {
	// Domains are listed by the operator, beside the white list: domain to the distinguished names that may speak for it.
	Domains map[string][]string `yaml:"domains"`
	// WhiteList is the national list.
	WhiteList WhiteList `yaml:"white_list"`
	// Hosts is a domain's server where its MX is not to be asked: domain to host:port. Neither counts in client mode (submission).
	Hosts map[string]string `yaml:"hosts"`
	// Port is where servers that the MX names are spoken with.
	Port int `yaml:"port"`
	// Limits are what one domain's operator takes, by domain.
	Limits map[string]TrustLimit `yaml:"limits"`
	// OwnDomains are the clinic's domains inside the trust space; only their addresses may write into it.
	OwnDomains []string `yaml:"own_domains"`
	// TLSDir holds ca.pem, cert.pem, key.pem and, where it exists, crl.pem.
	TLSDir string `yaml:"tls_dir"`
	// CA are PEM files with one or more certificates each: self-signed ones are the roots.
	CA   []string `yaml:"ca"`
	Cert string   `yaml:"cert"`
	Key  string   `yaml:"key"`
	// CRL is a revocation list that something else renews; it counts until its NextUpdate.
	CRL        string          `yaml:"crl"`
	Revocation TrustRevocation `yaml:"revocation"`
	TLS        TrustTLS        `yaml:"tls"`
	// StrictDN: a DN of the list is the certificate's to the letter, without the likenesses of quotes, spaces, accents and order.
	StrictDN bool `yaml:"strict_dn"`
	// Submission is the clinic's MSSanté operator, whose client it is ("client mode").
	Submission Submission `yaml:"submission"`
	// ListedUnverified is for a listed domain whose person the directory does not show: trust or refuse.
	ListedUnverified policy.Route `yaml:"listed_unverified"`
	// Documents are the rules for health documents (IHE_XDM.ZIP) and the X-MSS fields.
	Documents TrustDocuments `yaml:"documents"`
	// Patients are the rules for Mon espace santé.
	Patients TrustPatients `yaml:"patients"`
	// PatientDomain is the domain of patients' Mon espace santé mailboxes.
	PatientDomain string `yaml:"patient_domain"`
	// Identities says who of the clinic writes as which mailbox. Empty: who writes must write with an address of own_domains.
	Identities Identities `yaml:"identities"`
}

// TrustDocuments says what is done with health documents and their header fields on the way into the trust space (Référentiel #2, section 2).
type TrustDocuments struct {
	// Product is the reference of the product that X-MSS-NIL names, added where a message bears none; empty: never added.
	Product string `yaml:"product"`
	// Check is what becomes of a message that does not fit its IHE_XDM.ZIP: note (with the decision) or refuse. Documents of another patient
	// than the one written to are refused always.
	Check string `yaml:"check"`
	// Fill adds X-MSS-CODECDA and X-MSS-INS where they are missing, from the documents themselves.
	Fill bool `yaml:"fill"`
}

// TrustPatients says how mail for patients' Mon espace santé mailboxes is looked at.
type TrustPatients struct {
	// Header is a field of the message by which the clinic's software asserts that the patient's INS is qualified (oui, yes, o or 1); empty: none.
	Header string `yaml:"header"`
	// NoMailbox are the enhanced codes (RFC 3463) by which the patients' operator says that there is no such mailbox.
	NoMailbox []string `yaml:"no_mailbox"`
}

// TrustLimit is what one domain's operator takes; zero fields leave it to what its server says.
type TrustLimit struct {
	// Size is the largest message on the wire, with its encodings; a larger one is refused at once.
	Size Size `yaml:"size"`
	// MaxConns is how many connections may be open at once.
	MaxConns int `yaml:"max_conns"`
}

// Inbound is what becomes of mail from the trust space on its way to the clinic's server, beside the mark of origin.
type Inbound struct {
	// SubjectMark stands before its subject, for people: [MSSanté]; empty: the subject stays as it is.
	SubjectMark string `yaml:"subject_mark"`
	// UnpackXDM lays the PDF and XML documents of an IHE_XDM.ZIP beside it, as attachments of their own.
	UnpackXDM bool `yaml:"unpack_xdm"`
	// Mailboxes says of an address, or a glob of addresses, whether mail is delivered (deliver) or kept for the portal, with a notice to the
	// mailbox (vault). The address itself decides, else the longest glob; deliver where none holds.
	Mailboxes map[string]string `yaml:"mailboxes"`
	// Decrypt opens and verifies what comes encrypted or signed for the clinic, from the trust space and from outside.
	Decrypt InboundDecrypt `yaml:"decrypt"`
}

// InboundDecrypt is what becomes of S/MIME and OpenPGP mail for the clinic.
type InboundDecrypt struct {
	// Mode is auto or off. auto opens and verifies where keys has a key to decrypt with, and does nothing elsewhere.
	Mode string `yaml:"mode"`
	// CA is a PEM file with the only authorities whose certificates are believed in a signature; empty: the system's.
	CA string `yaml:"ca"`
}

// What Inbound.Mailboxes may say.
const (
	InboundDeliver = "deliver"
	InboundVault   = "vault"
)
