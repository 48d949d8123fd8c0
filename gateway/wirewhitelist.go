package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"passerelle/config"
	"passerelle/gateway/trust"
)

// WhiteListStatus is the list as the operator sees it.
type WhiteListStatus = trust.WhiteListStatus

var (
	// ErrNoWhiteList: no white list is configured.
	ErrNoWhiteList = trust.ErrNoWhiteList
	// ErrNoneWaiting: no list waits for the operator.
	ErrNoneWaiting = trust.ErrNoneWaiting
)

var usages = map[string]x509.ExtKeyUsage{"emailProtection": x509.ExtKeyUsageEmailProtection, "codeSigning": x509.ExtKeyUsageCodeSigning,
	"clientAuth": x509.ExtKeyUsageClientAuth, "serverAuth": x509.ExtKeyUsageServerAuth, "any": x509.ExtKeyUsageAny}

// whiteListConfig is the signed list as the config wants it, nil where none is configured.
func whiteListConfig(cfg *config.Config) *trust.WhiteListConfig {
	w := cfg.Trust.WhiteList
	if w.URL == "" {
		return nil
	}
	return &trust.WhiteListConfig{URL: w.URL, StateDir: cfg.StateDir, Every: w.Every.Std(), CA: w.CA, Roots: w.Roots, CN: w.Signer.CN, Issuer: w.Signer.Issuer,
		EKU: usages[w.Signer.EKU], MaxAge: w.MaxAge.Std(), AlarmAge: w.AlarmAge.Std(), Shrink: w.Shrink.Share()}
}

// WhiteList tells of the signed list of the config in force; nil where none is configured.
func (g *Gateway) WhiteList() *WhiteListStatus {
	if space := g.current().space; space != nil {
		return space.WhiteList()
	}
	return nil
}

// WhiteList is the list beside a running gateway, for the operator's commands: that picks up what they change.
type WhiteList struct {
	space *trust.Space
	dir   string
}

// OpenWhiteList reads and verifies the list that is kept.
func OpenWhiteList(cfg *config.Config, log *slog.Logger) (*WhiteList, error) {
	if !inTrust(cfg) {
		return nil, ErrNoWhiteList
	}
	space, err := trust.New(trustConfig(cfg, nil, time.Now, log))
	if err != nil {
		return nil, fmt.Errorf("trust space: %w", err)
	}
	return &WhiteList{space, cfg.StateDir}, nil
}

// Status is as Gateway.WhiteList.
func (w *WhiteList) Status() *WhiteListStatus { return w.space.WhiteList() }

// Refresh looks for a newer list now; result says what came of it (taken, unchanged, waiting, or a fault's kind).
func (w *WhiteList) Refresh(ctx context.Context) (result string, err error) {
	if err := ownedByUs(w.dir); err != nil {
		return "", err
	}
	return w.space.RefreshList(ctx)
}

// Waiting gives the date of the waiting list, and the domains that it would add and remove.
func (w *WhiteList) Waiting() (date time.Time, added, lost []string, err error) {
	return w.space.Waiting()
}

// Accept puts the waiting list of this date in force.
func (w *WhiteList) Accept(ctx context.Context, date time.Time) error {
	if err := ownedByUs(w.dir); err != nil {
		return err
	}
	return w.space.Accept(ctx, date)
}

// Show gives the DNs that may speak for a domain, each with where it is written; the error is a doubt.
func (w *WhiteList) Show(domain string) (names [][2]string, listed bool, err error) {
	names, err = w.space.Show(domain)
	return names, w.space.Listed(domain), err
}

// listSound is what /readyz says of the list.
func (g *Gateway) listSound(context.Context) error {
	if s := g.WhiteList(); s != nil && s.Doubt != "" {
		return errors.New(s.Doubt)
	}
	return nil
}
