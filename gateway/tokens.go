package gateway

import (
	"log/slog"
	"strings"
	"sync"

	"passerelle/gateway/trust"
)

// tokenSources has one source for each token command, whoever asks: a mailbox that is collected and written from has one token, and what one
// side evicts the other does not use. It outlives a reload.
type tokenSources struct {
	mu sync.Mutex
	by map[string]*trust.Tokens
}

func (s *tokenSources) of(command []string, log *slog.Logger) *trust.Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.Join(command, "\x00")
	if s.by == nil {
		s.by = map[string]*trust.Tokens{}
	}
	if s.by[key] == nil {
		s.by[key] = trust.NewTokens(command, log)
	}
	return s.by[key]
}
