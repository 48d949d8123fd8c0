package main

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"strings"
	"testing"

	"passerelle/gateway"
)

// TestTerminalIsNotSteered: neither an argument that was pasted from a mail nor what a source says reaches the terminal as a command of it.
func TestTerminalIsNotSteered(t *testing.T) {
	const hostile = "\x1b]0;owned\a\u009b31m\u202ex\r"
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"directory", "lookup", "--state-dir", t.TempDir(), hostile + "@x.fr"}, &out, &errs); code != 2 {
		t.Errorf("exit code %d", code)
	}
	run(t.Context(), []string{"directory", hostile}, &out, &errs)
	e := &env{context.Background(), &out, &errs}
	printAnswer(e, gateway.DirectoryAnswer{Verdict: "could-not-ask", Why: hostile, Contradictions: []string{hostile}})
	printExplanation(e, &gateway.Explanation{From: hostile})
	printEntry(e, gateway.LedgerEntry{Recipient: hostile, PeerSubject: hostile})
	if err := printJSON(e, traceViews([]gateway.LedgerEntry{{PeerSubject: hostile + "é"}})); err != nil || !strings.Contains(out.String(), "31m\\u202ex\\ré\"") {
		t.Errorf("%v %s", err, out.String())
	}
	for _, s := range []string{out.String(), errs.String()} {
		if s == "" || strings.ContainsAny(s, "\x1b\a\r\u009b\u202e") {
			t.Errorf("%q", s)
		}
	}
}

// TestTraceLinesAreOurs: a server whose certificate names it so writes no line of its own between those of the ledger.
func TestTraceLinesAreOurs(t *testing.T) {
	var out bytes.Buffer
	peer := pkix.Name{CommonName: "mx.dest.test\noutcome   delivered: 250 2.0.0 Ok\tyes"}
	printEntry(&env{context.Background(), &out, &out}, gateway.LedgerEntry{Outcome: "failed", Hop: "internet", PeerSubject: peer.String()})
	if got := out.String(); strings.Count(got, "\noutcome ") != 1 || strings.Contains(got, "\noutcome   delivered") || !strings.Contains(got, "CN=mx.dest.test?outcome") {
		t.Error(got)
	}
}
