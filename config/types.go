package config

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"passerelle/policy"
)

// Size is a number of bytes, written 50MiB, 10MB or 1000.
type Size = policy.Size

// Secret is a value that must not be seen in a log, a dump or a fault; it prints as <secret>.
type Secret string

const hidden = "<secret>"

// Reveal gives the value itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the value; the empty secret shows that it is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides the value from every verb: %d or %#v would go round String.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(s.String())), nil }

// MarshalText hides the value from encoders of text, YAML among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Duration is a span of time, written 30s, 5m, 4h, 21d or 1d12h.
type Duration time.Duration

const day = 24 * time.Hour

// UnmarshalText reads a duration; a number without unit is refused, because nobody can tell what it was meant to be.
func (d *Duration) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	fault := fmt.Errorf("%q is no duration (write 30s, 5m, 4h or 21d)", t)
	days, rest, ok := strings.Cut(t, "d")
	var sum time.Duration
	if ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fault
		}
		sum = time.Duration(n) * day
	} else {
		rest = t
	}
	if rest != "" {
		v, err := time.ParseDuration(rest)
		if err != nil || v < 0 || rest == "0" || sum+v < sum {
			return fault
		}
		sum += v
	} else if !ok {
		return fault
	}
	*d = Duration(sum)
	return nil
}

// Std gives the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String gives whole days as days and everything else as time.Duration does.
func (d Duration) String() string {
	if v := time.Duration(d); v != 0 && v%day == 0 {
		return strconv.Itoa(int(v/day)) + "d"
	}
	return time.Duration(d).String()
}

// MarshalText gives what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Percent is a share, written 20%.
type Percent int

// UnmarshalText reads a whole number with its sign; "0.2" is refused, because it might mean either.
func (p *Percent) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	digits, ok := strings.CutSuffix(t, "%")
	n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 8)
	if !ok || err != nil || n > 100 {
		return fmt.Errorf("%q is no share (write 20%%)", t)
	}
	*p = Percent(n)
	return nil
}

// Share gives 0.2 for 20%.
func (p Percent) Share() float64 { return float64(p) / 100 }

// String gives what UnmarshalText reads.
func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// MarshalText gives what UnmarshalText reads.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
