package directory

import (
	"log/slog"
	"time"
)

// The three verdicts.
const (
	Verified    = "verified"
	NotListed   = "not-listed"
	CouldNotAsk = "could-not-ask"
)

// Record is one line of a source about one mailbox.
type Record struct {
	Address, Kind                    string // Kind: PER, ORG; APP and CAB are announced
	Title, FirstName, LastName       string
	IDType, ID                       string // RPPS, ADELI
	Structure, StructureID, Service  string
	Profession, Category, Speciality string
	City, PostalCode, Department     string
	Dematerialised                   *bool // accepts documents without paper; nil where the source does not say. Shown, never routed on
	// RedList: the person does not want to be shown; Inactive: the source says that the mailbox or the practice has ended.
	RedList, Inactive bool
	// Flags are doubts about the record that never reject it, for instance "rpps-check-failed".
	Flags []string
	// Keys are certificates (DER) and OpenPGP public keys of the mailbox as the source holds them, unchecked.
	Keys [][]byte `json:",omitempty"`
	// Places are all lines of the mailbox in what Search found, nil where there is one.
	Places []Place
	Source string
	Also   []string // the other sources that told of the same holder and filled what Source left empty
	AsOf   time.Time
}

// Answer is what is known about one address.
type Answer struct {
	Verdict string // Verified, NotListed, CouldNotAsk
	Why     string // why it could not be asked, for the operator; "" otherwise
	Reply   string // the same for the sender's server: one line of ASCII French
	Records []Record
	Contact *Contact // the clinic's own entry, nil where none; it is no part of the verdict
	Source  string   // the source that gave the verdict: extraction, fhir, ldap
	AsOf    time.Time
	// Sources are all that were asked, in their precedence; Contradictions where they differ, fit for the ledger.
	Sources        []Said
	Contradictions []string
	// Keys are those of a source that tells of keys, as it holds them, KeysFrom is its name and KeysAsOf when it was asked; "" where none was
	// asked, or could be. No keys is an answer too.
	Keys     [][]byte
	KeysFrom string
	KeysAsOf time.Time
	// Lookalike is the known domain for which the address's own may have been taken by mistake, "" where it looks like none.
	Lookalike string
	// KnownAs is the MSSanté mailbox of the same person, where a link says so.
	KnownAs KnownAs
}

// Config is what a Directory works from.
type Config struct {
	StateDir string
	// MirrorDir holds the mirror, "" if StateDir does: a look beside a gateway reads an extraction file into a folder of its own.
	MirrorDir string
	// ExtractionFile is imported at Open and With if it is another file than the mirror was made from and not an older one; "" if
	// files come by Import alone.
	ExtractionFile string
	// ListFile is the clinic's own list, .yaml, .yml or .csv; "" if there is none.
	ListFile string
	// MaxAge is the age at which the extraction is no longer believed; 0 is 21 days. From AlarmAge on, 0 is 2 days, the operator is told.
	MaxAge, AlarmAge time.Duration
	// Fetch is the download of the extraction; see Refresh and KeepFresh.
	Fetch FetchConfig
	// Precedence names the sources that are asked, first to last; where they contradict each other the first wins. Without it all that are
	// configured are asked, extraction, fhir, ldap, and the newer wins.
	Precedence []string
	// FHIR and LDAP are asked as their Asking says; nil where they are not.
	FHIR       *FHIRConfig
	FHIRAsking Asking
	LDAP       *LDAPConfig
	LDAPAsking Asking
	// Known are the domains for which others may be mistaken: white list, the clinic's own, its partners'.
	Known []string
	// KeyFiles are OpenPGP key files by address or @domain, beside those that the list names.
	KeyFiles map[string]string
	// ReadOnly keeps nothing that remote sources say: for a look beside a gateway that serves.
	ReadOnly bool
	// Unconfigured: the state folder is all that is known. What its last download came to is told, whatever it was from.
	Unconfigured bool
	Now          func() time.Time
	Log          *slog.Logger

	remotes []remoteSpec // a test's own in the place of those above
}

// Status is the state of the mirror and the list.
type Status struct {
	AsOf, ImportedAt         time.Time
	Age                      time.Duration
	Entries, PER, ORG, Lines int       // Entries, PER and ORG count mailboxes
	File                     string    // the name of the file that the mirror was made from
	Fault                    string    // why the directory cannot be asked now, "" if it can
	ImportFault              string    // why the extraction file was not taken, "" if it was; an older mirror may still answer
	Contacts                 int       // entries of the clinic's list
	ListFault                string    // why the list's present file was not taken; the former content answers
	FetchFault               string    // why the last look for a new extraction failed, "" if it went well
	FetchChecked, FetchNext  time.Time // the last good look, and the next
	CertificatesOver         int       // entries of the clinic's list whose certificate has run out
	Searchable               bool      // the mirror has an index
	Configured               bool      // an extraction file is set, or a mirror was there at some time
}
