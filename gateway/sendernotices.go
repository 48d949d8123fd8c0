package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"passerelle/gateway/message"
	"passerelle/gateway/vault"
)

// Resend sends the notice of a deposit again, as its sender or the operator asked.
func (g *Gateway) Resend(ctx context.Context, id string) error {
	// A patient whom guessers kept out has called. This helps him also where the link is not here any more to be sent again.
	if err := g.vault.Unlock(ctx, id); err != nil {
		return err
	}
	dep, err := g.vault.Reissue(ctx, id)
	if err != nil {
		return err
	}
	if err := g.wanted(ctx, dep.Sender, dep.Recipient); err != nil {
		return fmt.Errorf("send notice again: %w", err)
	}
	if err := g.sendNotice(ctx, dep, vault.NoticeRequest{Again: true}); err != nil {
		return fmt.Errorf("send notice again: %w", err)
	}
	return nil
}

// Complete gives a held deposit the telephone number of its recipient ("": the sender tells the code), sends the notice and lets it be opened.
// Where a step fails it stays held. Two at once, as of a button pressed twice, are one; and each attempt that fails may have sent a mail, so
// that they are few.
func (g *Gateway) Complete(ctx context.Context, id, phone string) error {
	done, err := g.completing.begin(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	if g.shared != nil {
		key := sha256.Sum256([]byte("complete " + id))
		lease, err := g.take(ctx, key)
		if err != nil {
			return err
		}
		defer g.leave(ctx, key, lease, false)
	}
	s, err := g.vault.Status(ctx, id)
	if err != nil {
		return err
	}
	if s.State == vault.Waiting || s.State == vault.Opened { // the other one did it
		return nil
	}
	if phone != "" {
		if _, _, err := vault.ParsePhone(phone); err != nil {
			return err
		}
	}
	if err := g.wanted(ctx, s.Sender, s.Recipient); err != nil { // blocked while it was held
		return err
	}
	if !g.completing.allow(id, g.now()) {
		return &vault.Error{Reason: vault.SlowDown}
	}
	dep, err := g.vault.Complete(ctx, id, phone)
	if err != nil {
		return err
	}
	if dep.Code != "" {
		body, err := g.vault.CodeForSender(dep, vault.NoticeRequest{From: g.set.noticeFrom})
		if err != nil {
			return fmt.Errorf("write the code for the sender: %w", err)
		}
		if err := g.toClinic(ctx, message.Address{}, dep.Sender, nil, body); err != nil {
			return fmt.Errorf("hand the code to the sender: %w", err)
		}
	}
	if err := g.sendNotice(ctx, dep, vault.NoticeRequest{}); err != nil {
		return fmt.Errorf("send notice: %w", err)
	}
	released, cancel := context.WithTimeout(context.WithoutCancel(ctx), handPatience)
	defer cancel()
	return g.noteSent(released, func() error { return g.vault.Release(released, id) }) // the patient has the link
}

// completing is what holds the attempts at one held deposit apart.
type completing struct {
	mu    sync.Mutex
	tries *vault.Limiter
	busy  map[string]chan struct{}
}

// begin waits until nobody else completes that deposit; done lets the next one in.
func (c *completing) begin(ctx context.Context, id string) (done func(), err error) {
	for {
		c.mu.Lock()
		other := c.busy[id]
		if other == nil {
			if c.busy == nil {
				c.busy = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			c.busy[id] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.busy, id)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("complete deposit %s: %w", id, ctx.Err())
		}
	}
}

// allow takes one of three attempts in ten minutes.
func (c *completing) allow(id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries == nil {
		c.tries = vault.NewLimiter(10*time.Minute, 3)
	}
	return c.tries.Allow(id, now)
}
