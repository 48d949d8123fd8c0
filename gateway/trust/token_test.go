package trust

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// jwt has the shape of an access token; nobody signed it.
func jwt(exp int64) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part(fmt.Appendf(nil, `{"exp":%d}`, exp)) + "." + part([]byte("signature of nobody at all"))
}

// shell makes a source over a script that counts its runs in the file it names.
func shell(t *testing.T, script string) (tokens *Tokens, runs func() int, log *bytes.Buffer) {
	t.Helper()
	count := filepath.Join(t.TempDir(), "runs")
	log = new(bytes.Buffer)
	tokens = NewTokens([]string{"/bin/sh", "-c", "echo x >>" + count + "\n" + script}, slog.New(slog.NewTextHandler(log, nil)))
	return tokens, func() int {
		b, _ := os.ReadFile(count)
		return strings.Count(string(b), "x")
	}, log
}

func TestTokenIsKeptUntilItEnds(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, out string
		life      time.Duration
	}{
		{"a line", "abc-123", tokenAge - 30*time.Second},
		{"an object", `{"access_token":"abc-123","expires_in":60,"token_type":"Bearer","scope":"mail"}`, 54 * time.Second},
		{"seconds as text", `{"access_token":"abc-123","expires_in":"3600"}`, time.Hour - 30*time.Second},
		{"a JWT", jwt(now.Add(2 * time.Minute).Unix()), 2*time.Minute - 12*time.Second},
		{"a JWT that ends sooner than it is said", `{"access_token":"` + jwt(now.Add(time.Minute).Unix()) + `","expires_in":600}`, 54 * time.Second},
		{"a JWT that is said to end sooner", `{"access_token":"` + jwt(now.Add(time.Hour).Unix()) + `","expires_in":10}`, 9 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tokens, runs, _ := shell(t, "echo '"+tc.out+"'")
			clock := now
			tokens.now = func() time.Time { return clock }
			for _, step := range []struct {
				after time.Duration
				runs  int
			}{{0, 1}, {tc.life - time.Second, 1}, {tc.life + time.Second, 2}} {
				clock = now.Add(step.after)
				token, err := tokens.Get(t.Context())
				if err != nil || !strings.Contains(tc.out, token) || token == "" {
					t.Fatalf("after %v: token of %d octets, %v", step.after, len(token), err)
				}
				if runs() != step.runs {
					t.Errorf("after %v: %d runs, want %d", step.after, runs(), step.runs)
				}
			}
		})
	}
}

func TestTokenFaults(t *testing.T) {
	secret := strings.Repeat("SeCrEt", 10)
	for _, tc := range []struct{ name, script, want string }{
		{"exit code", "echo " + secret + "; exit 3", "exit status 3"},
		{"nothing", "true", "no token in its output"},
		{"two lines", "echo " + secret + "; echo more", "neither a token on one line nor"},
		{"a control character", "printf 'abc\\001auth=Bearer'", "neither a token on one line nor"},
		{"no JSON", "echo '{\"access_token\":\"" + secret + "\"'", "no JSON object"},
		{"another JSON", "echo '{\"token\":\"" + secret + "\"}'", "no access_token"},
		{"an OAuth error", `echo '{"error":"invalid_grant","error_description":"` + secret + `"}'`, `error "invalid_grant"`},
		{"another kind", `echo '{"access_token":"` + secret + `","token_type":"mac"}'`, "no bearer token"},
		{"expired", `echo '{"access_token":"` + secret + `","expires_in":0}'`, "has expired"},
		{"a JWT that expired", "echo " + jwt(time.Now().Add(-time.Minute).Unix()), "the token expired at"},
		{"too long", "head -c 9000 /dev/zero | tr '\\0' a", "token over"},
		{"a flood", "head -c 900000 /dev/zero | tr '\\0' a", "more than 65536 octets"},
		{"no program", "", "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tokens, _, log := shell(t, tc.script)
			if tc.script == "" {
				tokens.command = []string{"/nowhere/token"}
			}
			token, err := tokens.Get(t.Context())
			if err == nil || token != "" || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("token of %d octets, error %v; want none and %q", len(token), err, tc.want)
			}
			if said := err.Error() + log.String(); strings.Contains(said, "SeCrEt") || strings.Contains(said, "aaaa") {
				t.Errorf("the output is told: %s", said)
			}
		})
	}
}

// TestTokenCommandWords: its standard error reaches the log, and no secret with it.
func TestTokenCommandWords(t *testing.T) {
	secret := strings.Repeat("SeCrEt", 10)
	tokens, _, log := shell(t, "echo 'refreshed, was "+secret+" now sh0rt' >&2; echo sh0rt")
	if token, err := tokens.Get(t.Context()); err != nil || token != "sh0rt" {
		t.Fatalf("got %q, %v", token, err)
	}
	if s := log.String(); !strings.Contains(s, "refreshed, was <secret> now <secret>") {
		t.Errorf("log: %s", s)
	}
	tokens, _, log = shell(t, "head -c 100000 /dev/zero | tr '\\0' ' ' >&2; echo end >&2; echo good")
	if _, err := tokens.Get(t.Context()); err != nil {
		t.Error(err)
	}
	if log.Len() > 2*maxTokenWords {
		t.Errorf("%d octets of log", log.Len())
	}
}

// TestTokenCommandEnvironment: what our own environment holds for us is not the command's.
func TestTokenCommandEnvironment(t *testing.T) {
	t.Setenv("SMS_PASSWORD", "hunter2")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/passerelle.service")
	t.Setenv("https_proxy", "http://proxy.clinic.test:3128")
	tokens, _, _ := shell(t, `echo "${SMS_PASSWORD:-no}-${CREDENTIALS_DIRECTORY:-no}-${https_proxy##*:}-${PATH:+path}"`)
	if token, err := tokens.Get(t.Context()); err != nil || token != "no-no-3128-path" {
		t.Errorf("%q, %v", token, err)
	}
}

func TestTokenCommandHasADeadline(t *testing.T) {
	tokens, _, _ := shell(t, "sleep 60 & sleep 60; echo late")
	tokens.time = 50 * time.Millisecond
	began := time.Now()
	_, err := tokens.Get(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Fatalf("error %v", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestTokenEvicted(t *testing.T) {
	tokens, runs, _ := shell(t, "date +token-%N")
	get := func() string {
		t.Helper()
		token, err := tokens.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := get()
	tokens.Evict(first)
	second := get()
	if second == first || runs() != 2 {
		t.Fatalf("%d runs, the same token: %t", runs(), second == first)
	}
	tokens.Evict(first) // another session's news, come late
	if tokens.Holds(first) || !tokens.Holds(second) || tokens.Holds("") {
		t.Error("another token is held than the one that is kept")
	}
	if get() != second || runs() != 2 {
		t.Errorf("a token fell for its forerunner: %d runs", runs())
	}
}

// TestTokenRefusedIsNeverKept: a command that gives the refused token again is asked each time.
func TestTokenRefusedIsNeverKept(t *testing.T) {
	tokens, runs, _ := shell(t, "echo same")
	for n := 1; n <= 3; n++ {
		token, err := tokens.Get(t.Context())
		if err != nil || token != "same" || runs() != n {
			t.Fatalf("%q, %v, %d runs, want %d", token, err, runs(), n)
		}
		tokens.Evict(token)
	}
}

func TestTokenOneFlight(t *testing.T) {
	for _, script := range []string{"sleep 0.2; echo good", "sleep 0.2; exit 1"} {
		tokens, runs, _ := shell(t, script)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if token, err := tokens.Get(t.Context()); (err == nil) != (token == "good") {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if runs() != 1 {
			t.Errorf("%s: %d runs", script, runs())
		}
	}
}

// TestTokenWaiterLeaves: neither does it wait for another's run longer than it may, nor does its leaving spoil anything for the next.
func TestTokenWaiterLeaves(t *testing.T) {
	first := filepath.Join(t.TempDir(), "first")
	tokens, runs, _ := shell(t, "mkdir "+first+" && sleep 60; echo good") // the second run does not sleep
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(first); err == nil {
				return
			}
		}
	}()
	if _, err := tokens.Get(ctx); err == nil {
		t.Error("a token although nobody waited for it")
	}
	if token, err := tokens.Get(t.Context()); err != nil || token != "good" || runs() != 2 {
		t.Errorf("%q, %v, %d runs", token, err, runs())
	}
}

func TestTokenFailedCommandRests(t *testing.T) {
	tokens, runs, _ := shell(t, "exit 1")
	clock := time.Now()
	tokens.now = func() time.Time { return clock }
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			clock = clock.Add(tokenPause + time.Second)
		}
		if _, err := tokens.Get(t.Context()); err == nil || runs() != want {
			t.Errorf("%v, %d runs, want %d", err, runs(), want)
		}
	}
}
