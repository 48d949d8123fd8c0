package main

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"passerelle/gateway/gatewaytest"
)

// keys writes DIR/own (the gateway's TLS_DIR), DIR/peer (the sink's) DIR/pgp.asc (PGP_KEY) and DIR/list.csv (SMIME_LIST), and tells the DN that the gateway must expect.
func keys(_ context.Context, f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	dn, err := writeKeys(f.Arg(0))
	if err == nil {
		fmt.Println(dn)
	}
	return err
}

func writeKeys(dir string) (peerDN string, err error) {
	ca, err := gatewaytest.NewCA("bench")
	if err != nil {
		return "", err
	}
	for name, dn := range map[string]pkix.Name{
		"own":  {CommonName: "passerelle.clinic.test", Country: []string{"FR"}},
		"peer": {CommonName: "mx.dest.test", Organization: []string{"Dest"}, Country: []string{"FR"}},
	} {
		cert, err := ca.IssueLocal(dn)
		if err != nil {
			return "", err
		}
		if err := ca.WriteDir(filepath.Join(dir, name), cert); err != nil {
			return "", err
		}
		if name == "peer" {
			peerDN = cert.Cert.Subject.String()
		}
	}
	key, err := openpgp.NewEntity("Dest", "", "user@dest.test", nil)
	if err != nil {
		return "", fmt.Errorf("OpenPGP key: %w", err)
	}
	var text bytes.Buffer
	a, err := armor.Encode(&text, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		return "", fmt.Errorf("OpenPGP key: %w", err)
	}
	if err := errors.Join(key.Serialize(a), a.Close(), os.WriteFile(filepath.Join(dir, "pgp.asc"), text.Bytes(), 0o644)); err != nil {
		return "", fmt.Errorf("OpenPGP key: %w", err)
	}
	holder, err := gatewaytest.NewCorrespondent(dir, gatewaytest.CorrespondentOptions{Address: "user@dest.test"})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "list.csv"), []byte("address;certificate\n@dest.test;"+filepath.Base(holder.CertFile)+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("list: %w", err)
	}
	return peerDN, nil
}

// directory writes as many physicians as the national file has in a region.
func directory(_ context.Context, f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	n, err := strconv.Atoi(f.Arg(0))
	if err != nil {
		return fmt.Errorf("number of mailboxes: %w", err)
	}
	boxes := make([]gatewaytest.Mailbox, n)
	for i := range boxes {
		boxes[i] = gatewaytest.Doctor(fmt.Sprintf("anne.durand%d@medecin.mss.test", i), "Anne", fmt.Sprintf("Durand%d", i))
		boxes[i].RPPS = fmt.Sprintf("1%010d", i)
	}
	return gatewaytest.WriteDirectory(f.Arg(1), boxes...)
}

// corpus lets other tools (corpus_through.py) send what the tests send.
func corpus(_ context.Context, f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(f.Arg(0), 0o755); err != nil {
		return fmt.Errorf("corpus: %w", err)
	}
	for _, l := range gatewaytest.Corpus("temoin=corpus") {
		if err := os.WriteFile(filepath.Join(f.Arg(0), l.Name+".eml"), l.Bytes, 0o644); err != nil {
			return fmt.Errorf("corpus: %w", err)
		}
	}
	return nil
}
