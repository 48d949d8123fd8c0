package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"passerelle/gateway"
)

type keysCmd struct {
	Import keysImportCmd `cmd:"" help:"Take certificates and OpenPGP keys out of files; exit code 1 where one was not taken."`
	List   keysListCmd   `cmd:"" help:"All keys, those of a word, or those that end soon."`
	Show   keysShowCmd   `cmd:"" help:"All about one key, or what is kept for an address."`
	Trust  keysTrustCmd  `cmd:"" help:"Say how sure a key is; rejected ones are never used, whoever finds them again."`
	Expire keysExpireCmd `cmd:"" help:"End a key now or on a day, or take that back."`
	Export keysExportCmd `cmd:"" help:"Write a key as a file for others: PEM or an armoured block."`
	Delete keysDeleteCmd `cmd:"" help:"Forget a key; what finds it again brings it back (trust it rejected to keep it away)."`
}

// keysFlag opens the keyring of the config's state folder, while the gateway serves too.
type keysFlag struct{ configFlag }

func (f keysFlag) open(e *env) (*gateway.Keys, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	return gateway.OpenKeys(e.ctx, cfg)
}

// keyAddress is the --address of what may be said of one address alone.
type keyAddress struct {
	Address string `placeholder:"ADDRESS" help:"Only as the key of this address, or of a whole domain: \"@cabinet.example\"."`
}

// day reads a day, or a time as in RFC 3339. A day begins at midnight in UTC.
func day(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &usageError{fmt.Errorf("%q is no day: 2027-01-31, or 2027-01-31T12:00:00Z", s)}
}

// span reads a time as config files write it: 30d, 12h.
func span(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var days int
		days, err = strconv.Atoi(n)
		d = time.Duration(days) * 24 * time.Hour
	}
	if err != nil || d <= 0 || d > 100*365*24*time.Hour {
		return 0, &usageError{fmt.Errorf("%q is no time to come: 30d, 12h", s)}
	}
	return d, nil
}

// until is a key's end for people.
func until(k *gateway.Key) string {
	if k.Ends().IsZero() {
		return "no end"
	}
	return k.Ends().Format(time.DateOnly)
}

// digits writes a fingerprint in groups of four, as people compare it.
func digits(fingerprint string) string {
	var b strings.Builder
	for i, r := range strings.ToUpper(fingerprint) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

var errNoKey = errors.New("no key is kept for it")

type keysImportCmd struct {
	keysFlag
	Files   []string `arg:"" name:"file" type:"existingfile" help:"Certificates in PEM, DER or PKCS#7 (.p7b), OpenPGP keys armoured or binary; several in one file are all taken."`
	Address string   `placeholder:"ADDRESS" help:"Keep them for this address, or for a whole domain (\"@cabinet.example\"), whatever they name themselves."`
	Trust   string   `default:"confirmed" enum:"seen,discovered,verified,confirmed" help:"How sure it is that they are their addresses' (default: ${default})."`
	Why     string   `placeholder:"TEXT" help:"On whose word, for the list: \"fingerprint read out by telephone on 12 May\"."`
}

func (keysImportCmd) Help() string {
	return "Compare the fingerprint with the correspondent by another way (telephone, paper) before you import: mail is sealed to what stands here. " +
		"A private key is refused, as is what nothing can be sealed to: expired, revoked, for signing alone, RSA under 2048 bits. " +
		"A serving gateway sees the keys within seconds. Run it as the user that serves.\n\n" +
		"Examples:\n  passerelle keys import cabinet.asc\n  passerelle keys import --address @avocat.example domaine.pem"
}

func (c keysImportCmd) Run(e *env) error {
	keys, err := c.open(e)
	if err != nil {
		return err
	}
	defer keys.Close()
	taken, refused := 0, 0
	for _, file := range c.Files {
		done, err := keys.Import(e.ctx, file, gateway.KeyImport{Address: c.Address, Trust: gateway.KeyTrust(c.Trust), Why: c.Why}, time.Now())
		if err != nil {
			fmt.Fprintf(e.stderr, "%s: %s\n", file, printable(err.Error()))
			refused++
			continue
		}
		for _, k := range done {
			switch {
			case k.Err != nil:
				fmt.Fprintf(e.stderr, "%s: %s\n", file, printable(k.Err.Error()))
				refused++
				continue
			case k.Warning != "":
				fmt.Fprintf(e.stderr, "warning: %s: key %.16s for %s: %s\n", file, k.Fingerprint, printable(k.Address), printable(k.Warning))
			}
			word := "known"
			if k.Added {
				word = "new"
			}
			fmt.Fprintf(e.stdout, "%s %s key for %s: %s, until %s\n  %s\n", word, k.Kind, printable(k.Address), printable(k.Name), until(&k.Key), digits(k.Fingerprint))
			taken++
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d taken, %d refused", taken, refused)
	}
	return nil
}
