package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSecretStaysHidden(t *testing.T) {
	type holder struct {
		URL  Secret
		Head map[string]Secret
	}
	h := holder{"hunter2", map[string]Secret{"a": "hunter2"}}
	js, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", h.URL)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		log.WriteString(fmt.Sprintf(verb, h) + fmt.Sprintf(verb, h.URL))
	}
	out := log.String() + string(js)
	if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e746572") || !strings.Contains(out, "<secret>") {
		t.Errorf("secret shown: %s", out)
	}
	if h.URL.Reveal() != "hunter2" {
		t.Error("Reveal does not reveal")
	}
}

func TestDurationAndSize(t *testing.T) {
	for in, want := range map[string]time.Duration{"30s": 30 * time.Second, "5m": 5 * time.Minute, "4h": 4 * time.Hour, "21d": 21 * day, "1d12h": 36 * time.Hour, "0s": 0} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.Std() != want {
			t.Errorf("duration %q = %v, %v", in, d, err)
		}
		var again Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("duration %q comes back as %v, %v", in, again, err)
		}
	}
	for _, in := range []string{"", "5", "-5m", "d", "1x", "1.5d", "99999999d", "1d0", "5d-1h"} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("duration %q was read as %v", in, d)
		}
	}
	for in, want := range map[string]Size{"50MiB": 50 << 20, "10MB": 10e6, "64KiB": 65536, "1000": 1000, "7 GB": 7e9, "3B": 3} {
		var s, again Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want {
			t.Errorf("size %q = %d, %v", in, s, err)
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("size %q comes back as %d, %v", in, again, err)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5MiB", "50 Mo", "9223372036854775807KiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("size %q was read as %d", in, s)
		}
	}
}
