package gateway

import (
	"context"
	"fmt"

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
	if err := g.sendNotice(ctx, dep, vault.NoticeRequest{Again: true}); err != nil {
		return fmt.Errorf("send notice again: %w", err)
	}
	return nil
}

// Complete gives a held deposit the telephone number of its recipient ("": the sender tells the code), sends the notice and lets it be opened.
// Where a step fails it stays held.
func (g *Gateway) Complete(ctx context.Context, id, phone string) error {
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
	return g.vault.Release(context.WithoutCancel(ctx), id)
}
