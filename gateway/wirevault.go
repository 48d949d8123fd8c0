package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/brand"
	"passerelle/gateway/clamd"
	"passerelle/gateway/message"
	"passerelle/gateway/openid"
	"passerelle/gateway/portal"
	"passerelle/gateway/store"
	"passerelle/gateway/vault"
)

// furnishVault builds what patients meet. The vault has a key of its own, made from the server key, from which neither that nor any other key can
// be had, and handles of the tables and payloads that are its own; the portal has the vault and three deeds of the flow (Answer, Resend,
// Complete). So the portal can later be a process of its own: it needs that key, those handles and a line to these deeds, and never the server key.
func (g *Gateway) furnishVault(ctx context.Context, cfg *config.Config) (err error) {
	if g.sms, err = newSMS(cfg); err != nil {
		return err
	}
	look, err := loadBrand(cfg)
	if err != nil {
		return err
	}
	providers, err := g.newProviders(cfg)
	if err != nil {
		return err
	}
	set := g.vaultConfig(cfg, look)
	if g.vault != nil {
		g.vault, err = g.vault.With(set)
	} else {
		var blobs *store.Blobs
		if blobs, err = store.OpenBlobs(filepath.Join(cfg.StateDir, "deposits")); err != nil {
			return err
		}
		g.vault, err = vault.New(ctx, g.db, vaultBlobs{blobs}, set)
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	p, err := g.newPortal(cfg, look, providers)
	if err == nil {
		g.portal = p
	}
	return err
}

func (g *Gateway) newPortal(cfg *config.Config, look *brand.Brand, providers []*openid.Provider) (*portal.Portal, error) {
	proxies, err := prefixes("pickup.proxies", cfg.Pickup.Proxies)
	if err != nil {
		return nil, err
	}
	answer := cfg.Pickup.Answer
	if g.clamd = nil; cfg.Pickup.Clamd.Addr != "" {
		g.clamd = &clamd.Client{Addr: cfg.Pickup.Clamd.Addr, Timeout: time.Duration(cfg.Pickup.Clamd.Timeout), Limit: int64(answer.Size)}
	}
	p, err := portal.New(portal.Config{MaxAnswer: int64(answer.Size), MaxFiles: answer.Files, PerDay: answer.Daily, Vault: g.vault, Answer: g.Answer, Resend: g.Resend, Complete: g.Complete, Refused: g.Refused, Providers: providers, Budget: g.budget.Part(), Brand: look,
		Proxies: slices.Concat(localProxies, proxies), Log: g.log})
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	return p, nil
}

func (g *Gateway) vaultConfig(cfg *config.Config, look *brand.Brand) vault.Config {
	set := vault.Config{Key: derive(g.key, "vault"), Brand: look, PublicURL: strings.TrimSuffix(cfg.Pickup.URL, "/"), Expiry: time.Duration(cfg.Pickup.Expiry), Keep: time.Duration(cfg.Pickup.Keep), Strict: cfg.Pickup.Strict,
		Reminders: durations(cfg.Pickup.Reminders), Report: time.Duration(cfg.Pickup.Report), Clinic: vault.Clinic{Name: cfg.Clinic.Name, Phone: cfg.Clinic.Phone},
		SMS: g.sms, ToSender: func(ctx context.Context, to message.Address, body *message.Body) error {
			return g.toClinic(ctx, message.Address{}, to, nil, body)
		}, TellPhrase: g.tellPhraseAgain, NoticeFrom: g.set.noticeFrom, Now: g.now, Log: g.log}
	if cfg.Pickup.EmailCode {
		set.ToRecipient = g.toRecipient
	}
	return set
}

func durations(ds []config.Duration) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = time.Duration(d)
	}
	return out
}

// localProxies: what comes to the portal from this machine comes through a proxy in front, and the patient is the last one in its
// X-Forwarded-For. Without it one stranger's wrong codes would slow down everybody.
var localProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newSMS gives the provider's interface, nil where none is configured.
func newSMS(cfg *config.Config) (vault.SMS, error) {
	if cfg.SMS.URL.Reveal() == "" {
		return nil, nil
	}
	headers := make(map[string]string, len(cfg.SMS.Headers))
	for k, v := range cfg.SMS.Headers {
		headers[k] = v.Reveal()
	}
	return vault.NewSMS(vault.SMSConfig{URL: cfg.SMS.URL.Reveal(), Method: cfg.SMS.Method, Headers: headers,
		Body: cfg.SMS.Body.Reveal(), ContentType: cfg.SMS.ContentType, Timeout: time.Duration(cfg.SMS.Timeout)})
}

// vaultBlobs shows the folder of blobs as the vault wants it.
type vaultBlobs struct{ *store.Blobs }

type vaultBlob struct{ b *store.Blob }

func (v vaultBlobs) Open(id string) (vault.Blob, error) {
	b, err := v.Blobs.Open(id)
	if err != nil {
		return nil, err
	}
	return vaultBlob{b}, nil
}

func (v vaultBlobs) Delete(_ context.Context, ids ...string) error { return v.Blobs.Delete(ids...) }

func (v vaultBlobs) List(_ context.Context, f func(ids []string) error) error { return v.Blobs.List(f) }

func (v vaultBlob) ReadAt(p []byte, off int64) (int, error) { return v.b.ReadAt(p, off) }
func (v vaultBlob) Size() int64                             { return v.b.Size }
func (v vaultBlob) Close() error                            { return v.b.Close() }
