package main

import (
	"bytes"
	"context"
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
	for _, s := range []string{out.String(), errs.String()} {
		if s == "" || strings.ContainsAny(s, "\x1b\a\r\u009b\u202e") {
			t.Errorf("%q", s)
		}
	}
}
