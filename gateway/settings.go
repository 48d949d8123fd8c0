package gateway

import (
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"passerelle/config"
	"passerelle/gateway/keyring"
	"passerelle/gateway/message"
	"passerelle/gateway/protect"
	"passerelle/gateway/relay"
	"passerelle/gateway/vault"
)

// settings are the plain values that the flow reads; no room knows the config.
type settings struct {
	observe          bool
	knownAs          string // knownOff, knownSuggest, knownRedirect
	hostname         string
	clinicName       string
	postmaster       string
	maxHeader        int
	maxText          int64
	maxReceived      int
	patience         time.Duration // the client's queue lifetime less a margin
	networks         []netip.Prefix
	recipientDomains map[string]bool
	inboundDomains   map[string]bool
	hops             map[string]relay.Hop
	hopClinic        relay.Hop
	hopInternet      relay.Hop
	noticeFrom       message.Address
	replyTo          message.Address // of notices, null for none
	codeMode         vault.Mode
	protect          protect.Options
	markKey          [32]byte
	passphraseKey    [32]byte
	phraseLinkKey    [32]byte
	sealsFiles       bool // some rule seals attachments alone
	pdfMode          string
	formLimits       map[string]config.Size // of a sealed message; 0 is none
	minTrust         keyring.Trust          // of a key of the keyring
	ldapTrust        keyring.Trust          // of one that the directory told of
	loopToken        string
	refuseUnclear    bool
	partners         partners
	trustPort        int
	documents        documents
	patients         config.TrustPatients
	patientDomain    string
	patientBox       *regexp.Regexp  // an address there, its local part first
	ownDomains       map[string]bool // clinic.domains
	inbound          inbound
	trustLimits      map[string]config.TrustLimit
	opens            opens
	sign             config.SignSMIME
	dkim             dkimKeys // by author's domain; empty: nothing is signed here
}

func newSettings(cfg *config.Config, key [32]byte) (settings, error) {
	s := settings{
		observe: cfg.Mode == "observe", knownAs: cfg.Directory.KnownAs, hostname: cfg.Hostname, clinicName: cfg.Clinic.Name, postmaster: cfg.Clinic.Postmaster,
		maxHeader: 256 << 10, maxText: 1 << 20, maxReceived: cfg.Limits.Received,
		patience:         time.Duration(cfg.Clinic.QueueLifetime) * 9 / 10,
		recipientDomains: set(cfg.Recipients.Domains), inboundDomains: set(append(cfg.Clinic.Domains, cfg.Trust.OwnDomains...)),
		hops: map[string]relay.Hop{}, partners: newPartners(cfg.Hops), trustPort: cfg.Trust.Port, ownDomains: set(cfg.Clinic.Domains),
		inbound: newInbound(cfg), patients: cfg.Trust.Patients, patientDomain: cfg.Trust.PatientDomain, patientBox: regexp.MustCompile(`(?i)([^\s<>"(),:;@]+)@` + regexp.QuoteMeta(cfg.Trust.PatientDomain)),
		documents:   documents{product: cfg.Trust.Documents.Product, refuse: cfg.Trust.Documents.Check == "refuse", fill: cfg.Trust.Documents.Fill},
		trustLimits: cfg.Trust.Limits, sign: cfg.Sign.SMIME, markKey: derive(key, "mark"), passphraseKey: derive(key, "passphrase"), phraseLinkKey: derive(key, "phrase link"), loopToken: protect.LoopToken(cfg.Hostname),
		refuseUnclear: cfg.Encrypt.Unclear == "refuse", sealsFiles: cfg.Policy.SealsAttachments(), pdfMode: cfg.Encrypt.PDF.Mode, formLimits: cfg.Encrypt.Limits.ByForm(),
		ldapTrust: keyring.Trust(cfg.Directory.LDAP.KeyTrust),
		minTrust:  keyring.Trust(cfg.Encrypt.MinTrust),
		protect:   protect.Options{Keep: cfg.Headers.Keep, Subject: cfg.Encrypt.Subject, Cipher: cfg.Encrypt.SMIME.Cipher, KeepSubject: cfg.Encrypt.KeepSubject, Clinic: cfg.Clinic.Name, Phone: cfg.Clinic.Phone},
	}
	for domain, addr := range cfg.Trust.Hosts { // never a hop that a rule could name: the colon is not allowed there
		s.hops["trust:"+domain] = relay.Hop{Addr: addr}
	}
	for name, h := range cfg.Hops {
		hop, err := newHop(name, s.hostname, h)
		if err != nil {
			return s, err
		}
		s.hops[name] = hop
	}
	var err error
	if s.networks, err = prefixes("clinic.networks", cfg.Clinic.Networks); err != nil {
		return s, err
	}
	if s.noticeFrom, err = message.ParseAddress(s.postmaster, false); err != nil {
		return s, fmt.Errorf("clinic.postmaster: %w", err)
	}
	if to := cfg.Pickup.ReplyTo; to != "" {
		if s.replyTo, err = message.ParseAddress(to, false); err != nil {
			return s, fmt.Errorf("pickup.reply_to: %w", err)
		}
	}
	if s.dkim, err = loadDKIM(cfg.DKIM); err != nil {
		return s, err
	}
	if s.opens, err = newOpens(cfg.Inbound.Decrypt); err != nil {
		return s, err
	}
	s.codeMode = vault.Mode(cfg.Pickup.Code)
	s.hopClinic, s.hopInternet = s.hops["clinic"], s.hops["internet"]
	return s, nil
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		if d, err := message.ParseDomain(n); err == nil {
			m[d] = true
		}
	}
	return m
}
