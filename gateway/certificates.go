package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"passerelle/config"
	"passerelle/gateway/keyring"
	"passerelle/gateway/message"
	"passerelle/gateway/trust"
)

var mCertificates = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_gateway_certificates_total",
	Help: "Correspondents' certificates looked at before mail is sealed to them, by verdict."}, []string{"verdict"}) // good, or a reason of trust.Error: chain, expired, weak-key, revoked, revocation-unknown

// certificates judges correspondents' certificates by the operator's authorities. nil judges nothing.
type certificates struct {
	space  *trust.Space // its engine; no domain is in it
	accept bool         // revocation that nobody tells of is taken for none
	log    *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	told map[string]time.Time // refusals that the log has, by fingerprint and verdict
}

// newCertificates gives nil where no roots are configured.
func newCertificates(cfg *config.Config, evidence *trust.Evidence, now func() time.Time, log *slog.Logger) (*certificates, error) {
	s := cfg.Encrypt.SMIME
	if len(s.Roots) == 0 {
		return nil, nil
	}
	log = log.With("for", "encrypt.smime")
	r := s.Revocation
	c := trust.Config{CA: s.Roots, Evidence: evidence, Now: now, Log: log}
	if r.Check {
		c.Revocation = trust.Revocation{Fetch: true, OCSP: trust.OCSPFallback, Every: r.Every.Std(), Timeout: r.Timeout.Std(), Grace: r.Grace.Std(), MaxAge: 7 * 24 * time.Hour}
	}
	space, err := trust.New(c)
	if err != nil {
		return nil, fmt.Errorf("encrypt.smime.roots: %w", err)
	}
	return &certificates{space: space, accept: r.Unknown == "accept", log: log, now: now, told: map[string]time.Time{}}, nil
}

// judge tells whether mail may be sealed to a certificate, the first of chain. A nil error: yes. Of the others a *trust.Error with Later says that
// nothing could be learnt of its revocation, and that the operator would wait.
func (c *certificates) judge(chain []*x509.Certificate, to message.Address) error {
	if c == nil {
		return nil
	}
	_, err := c.space.Mail(chain)
	verdict := "good"
	if e := (*trust.Error)(nil); errors.As(err, &e) {
		verdict = e.Reason
	}
	mCertificates.WithLabelValues(verdict).Inc()
	switch {
	case err == nil:
		return nil
	case c.accept && verdict == trust.Unproven:
		c.tell(slog.LevelInfo, "nobody tells whether a correspondent's certificate was revoked: mail is sealed to it", chain[0], to, verdict, err)
		return nil
	case verdict == trust.Unproven:
		c.tell(slog.LevelWarn, "nobody tells whether a correspondent's certificate was revoked: mail to it waits", chain[0], to, verdict, err)
	default:
		c.tell(slog.LevelWarn, "a correspondent's certificate is not sealed to", chain[0], to, verdict, err)
	}
	return err
}

// tell logs a verdict once a day.
func (c *certificates) tell(level slog.Level, what string, leaf *x509.Certificate, to message.Address, verdict string, err error) {
	sum := sha256.Sum256(leaf.Raw)
	id, now := hex.EncodeToString(sum[:]), c.now()
	c.mu.Lock()
	last, told := c.told[id+verdict]
	if len(c.told) >= 4096 {
		clear(c.told)
	}
	again := !told || now.Sub(last) >= 24*time.Hour || now.Before(last)
	if again {
		c.told[id+verdict] = now
	}
	c.mu.Unlock()
	if again {
		c.log.Log(context.Background(), level, what, "certificate", keyring.Short(id), "to", to, "verdict", verdict, "err", err)
	}
}

// judgeKey judges a certificate of the keyring, and notes there what is learnt of its revocation. What the operator confirmed himself needs no
// chain: his word stands for it.
func (g *Gateway) judgeKey(ctx context.Context, k *keyring.Key, chain []*x509.Certificate, to message.Address) error {
	if g.certs == nil {
		return nil
	}
	err := g.certs.judge(chain, to)
	e := (*trust.Error)(nil)
	errors.As(err, &e)
	switch {
	case e != nil && e.Reason == trust.Chain && k.Trust == keyring.Confirmed:
		return nil
	case e != nil && e.Reason == trust.Revoked:
		if nerr := g.ring.Checked(context.WithoutCancel(ctx), k.Fingerprint, g.now(), e.Err.Error()); nerr != nil {
			g.log.Error("a revocation could not be noted in the keyring", "err", nerr)
		}
	case err == nil && g.now().Sub(k.Checked) >= 24*time.Hour:
		if nerr := g.ring.Checked(context.WithoutCancel(ctx), k.Fingerprint, g.now(), ""); nerr != nil {
			g.log.Warn("that a certificate was looked at could not be noted in the keyring", "err", nerr)
		}
	}
	return err
}

// isDoubt tells that a verdict may be another one soon.
func isDoubt(err error) bool {
	e := (*trust.Error)(nil)
	return errors.As(err, &e) && e.Later
}
