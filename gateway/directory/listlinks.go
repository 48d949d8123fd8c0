package directory

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// maxAliases bounds a chain of aliases.
const maxAliases = 8

// resolveAliases makes every alias point at the end of its chain. One that leads back to itself is a fault of the list.
func resolveAliases(contacts map[string]*Contact) (faults []Fault) {
	ends := make(map[*Contact]string)
	for _, c := range contacts {
		if c.AliasOf == "" {
			continue
		}
		end, steps := c.AliasOf, 0
		for ; steps < maxAliases && end != c.Address; steps++ {
			next := contacts[end]
			if next == nil || next.AliasOf == "" {
				break
			}
			end = next.AliasOf
		}
		switch {
		case end == c.Address:
			faults = append(faults, Fault{File: c.File, Line: c.Line, Text: "alias_of leads back to the entry itself"})
		case steps == maxAliases:
			faults = append(faults, Fault{File: c.File, Line: c.Line, Text: fmt.Sprintf("alias_of leads through more than %d entries, or in a circle", maxAliases)})
		default:
			ends[c] = end
		}
	}
	for c, end := range ends {
		c.AliasOf = end
	}
	return faults
}

// readCertificate takes the first certificate of a PEM text, or one in DER as Windows exports it, for S/MIME. Whether it has run out is no fault of the list: the day on which
// it does must not take all others' entries away.
func readCertificate(text []byte) (*x509.Certificate, error) {
	if c, err := x509.ParseCertificate(text); err == nil {
		return c, nil
	}
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil:
			return nil, errors.New("this is no certificate (PEM or DER)")
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, errors.New("the certificate cannot be read")
			}
			return c, nil
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("this is a private key; the certificate belongs here")
		}
		text = rest
	}
}

func certPEM(c *Contact) string {
	if c.Certificate == nil || c.CertFile != "" {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate.Raw}))
}
