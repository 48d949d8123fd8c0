package trust

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// tokenTime is what a token command may take.
	tokenTime = 30 * time.Second
	// tokenPause is how long a command that failed is left alone: whoever waited for it gets its fault, not another run.
	tokenPause = 5 * time.Second
	// tokenAge is how long a token is kept that does not say until when it is good.
	tokenAge = 5 * time.Minute
	// tokenMargin is taken off a token's life, for clocks and for the session that begins with it; of a short life at most a tenth.
	tokenMargin = 30 * time.Second
	// maxToken is an access token's length: with its mailbox and in base64 it stays within a line of AUTH (RFC 4954 section 4: 12288 octets).
	maxToken = 8 << 10
	// maxTokenOutput bounds what the command writes; maxTokenWords is what of its standard error reaches the log.
	maxTokenOutput = 64 << 10
	maxTokenWords  = 2 << 10
)

// Tokens gives the access token of one mailbox, as a command prints it. It is safe for concurrent use, and one command runs at a time.
// A token is kept in memory alone (Référentiel #2, ECO.1.2.5) and stands in no log and no error.
type Tokens struct {
	command []string
	log     *slog.Logger
	now     func() time.Time
	time    time.Duration // tokenTime
	turn    chan struct{} // held by the one who runs the command

	mu      sync.Mutex
	token   string
	until   time.Time
	refused [sha256.Size]byte // the last one evicted: it is never kept again
	fault   error             // of the last run
	asked   time.Time         // when that was
}

// NewTokens makes the source over a command: a program and its arguments, run without a shell. It prints a JSON object of RFC 6749 section
// 5.1, of which access_token and expires_in (seconds) are read, or the token alone on one line. Of a JWT the end of its life (exp) counts too.
func NewTokens(command []string, log *slog.Logger) *Tokens {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Tokens{command: slices.Clone(command), log: log, now: time.Now, time: tokenTime, turn: make(chan struct{}, 1)}
}

// Get gives the token, fresh from the command where none is kept. Who waits while another runs the command gets what that one gets.
func (t *Tokens) Get(ctx context.Context) (string, error) {
	if token, err, known := t.kept(); known {
		return token, err
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a token: %w", ctx.Err())
	}
	if token, err, known := t.kept(); known {
		return token, err
	}
	token, life, err := t.run(ctx)
	if err != nil && ctx.Err() != nil { // says nothing of the command
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault, t.asked = err, t.now()
	if err == nil && sha256.Sum256([]byte(token)) != t.refused {
		t.token, t.until = token, t.now().Add(life)
	}
	return token, err
}

// kept gives the token that is still good, or the fault of a run a moment ago.
func (t *Tokens) kept() (token string, err error, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.token != "" && now.Before(t.until) {
		return t.token, nil, true
	}
	t.token = ""
	if age := now.Sub(t.asked); t.fault != nil && age >= 0 && age < tokenPause {
		return "", t.fault, true
	}
	return "", nil, false
}

// Holds tells whether a token is the one that is kept and still good: a session that began with another has outlived its rights.
func (t *Tokens) Holds(token string) bool {
	kept, err, known := t.kept()
	return known && err == nil && kept == token
}

// Evict forgets a token that a server refused. One that was replaced meanwhile is none of the present one's.
func (t *Tokens) Evict(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token || t.token == "" {
		t.token, t.refused = "", sha256.Sum256([]byte(token))
	}
}

// run asks the command. Its output is in no error: it may be the token, or a part of it.
func (t *Tokens) run(ctx context.Context) (token string, life time.Duration, err error) {
	if len(t.command) == 0 {
		return "", 0, errors.New("no token command")
	}
	ctx, cancel := context.WithTimeout(ctx, t.time)
	defer cancel()
	out, words := &capped{max: maxTokenOutput}, &capped{max: maxTokenWords}
	cmd := exec.CommandContext(ctx, t.command[0], t.command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, words, environment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer in time: %w", ctx.Err())
	case out.over:
		err = fmt.Errorf("more than %d octets of output", maxTokenOutput)
	case err == nil:
		token, life, err = readToken(out.b, t.now())
	}
	if s := spoken(words.b, token); s != "" {
		t.log.Warn("token command speaks", "command", t.command[0], "words", s)
	}
	if err != nil {
		return "", 0, fmt.Errorf("token command %s: %w", t.command[0], err)
	}
	return token, life, nil
}

// passed are the variables that a token command gets. Ours hold what the config reads (keys, passwords), and systemd's the way to the server key.
var passed = []string{"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}

func environment(all []string) []string {
	return slices.DeleteFunc(all, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !slices.Contains(passed, name)
	})
}

// capped keeps the first max octets and takes the rest in silence, so that the command ends by itself and its exit code tells.
type capped struct {
	b    []byte
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.max-len(c.b))
	c.b, c.over = append(c.b, p[:n]...), c.over || n < len(p)
	return len(p), nil
}

// secretLike is a run of characters that may be a token or its base64; a long path is hidden with them.
var secretLike = regexp.MustCompile(`[A-Za-z0-9._~+/=-]{32,}`)

// spoken is what a log may say of the command's standard error.
func spoken(b []byte, token string) string {
	s := string(b)
	if token != "" {
		s = strings.ReplaceAll(s, token, "<secret>")
	}
	s = secretLike.ReplaceAllString(s, "<secret>")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// bearer is an access token (RFC 6750 section 2.1): it cannot leave its place in a SASL message.
var bearer = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// readToken reads the command's output and says how long the token is to be kept.
func readToken(out []byte, now time.Time) (token string, life time.Duration, err error) {
	token = strings.TrimSpace(string(out))
	if strings.HasPrefix(token, "{") {
		if token, life, err = readTokenObject(token); err != nil {
			return "", 0, err
		}
	}
	switch {
	case token == "":
		return "", 0, errors.New("no token in its output")
	case len(token) > maxToken:
		return "", 0, fmt.Errorf("token over %d octets", maxToken)
	case !bearer.MatchString(token):
		return "", 0, errors.New("its output is neither a token on one line nor a JSON object")
	}
	if end, ok := jwtEnd(token); ok {
		left := end.Sub(now)
		if left <= 0 {
			return "", 0, fmt.Errorf("the token expired at %s", end.UTC().Format(time.RFC3339))
		}
		if life == 0 || left < life {
			life = left
		}
	}
	if life == 0 {
		life = tokenAge
	}
	return token, life - min(tokenMargin, life/10), nil
}

// readTokenObject reads an answer of RFC 6749 section 5.1, or its error of section 5.2. life is 0 where it is not said.
func readTokenObject(s string) (token string, life time.Duration, err error) {
	var o struct {
		Token   string      `json:"access_token"`
		Kind    string      `json:"token_type"`
		Expires json.Number `json:"expires_in"`
		Error   string      `json:"error"`
	}
	if json.Unmarshal([]byte(s), &o) != nil { // its own error would quote the output
		return "", 0, errors.New("its output is no JSON object of a token")
	}
	switch {
	case o.Token == "" && errorCode.MatchString(o.Error):
		return "", 0, fmt.Errorf("no token, error %q", o.Error)
	case o.Token == "":
		return "", 0, errors.New("no access_token in its output")
	case o.Kind != "" && !strings.EqualFold(o.Kind, "Bearer"):
		return "", 0, errors.New("the token is no bearer token")
	case o.Expires == "":
		return o.Token, 0, nil
	}
	seconds, err := strconv.ParseFloat(o.Expires.String(), 64)
	switch {
	case err != nil || seconds <= 0:
		return "", 0, errors.New("the token has expired (expires_in)")
	case seconds > 1e6:
		seconds = 1e6
	}
	return o.Token, time.Duration(seconds * float64(time.Second)), nil
}

var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// jwtEnd gives the exp of a JWT (RFC 7519 section 4.1.4). Nothing is verified: the server does that, this only spares asking it in vain.
func jwtEnd(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims.Exp < 1 || claims.Exp > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Exp), 0), true
}
