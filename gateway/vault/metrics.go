package vault

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	depositsGauge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "passerelle_vault_deposits", Help: "Deposits by state.",
	}, []string{"state"}) // pending, held, waiting, opened, expired, revoked, destroyed
	bytesGauge = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "passerelle_vault_bytes", Help: "Octets of sealed payloads of active deposits.",
	})
	smsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_vault_sms_total", Help: "Codes asked for by SMS, by result.",
	}, []string{"result"}) // sent, failed, limited
	codesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_vault_codes_total", Help: "Codes tried, by result.",
	}, []string{"result"}) // right, wrong, slowed, locked, void
)

var states = []State{Pending, Held, Waiting, Opened, Expired, Revoked, Destroyed}

// count sets the gauges from the database.
func (v *Vault) count(ctx context.Context) error {
	rows, err := v.db.Read().QueryContext(ctx, `SELECT state, COUNT(*), SUM(size) FROM vault_deposits GROUP BY state`)
	if err != nil {
		return fmt.Errorf("count deposits: %w", err)
	}
	defer rows.Close()
	n, bytes := map[State]float64{}, 0.0
	for rows.Next() {
		var s State
		var c, b float64
		if err := rows.Scan(&s, &c, &b); err != nil {
			return fmt.Errorf("count deposits: %w", err)
		}
		if n[s] = c; s == Pending || s == Held || s == Waiting || s == Opened {
			bytes += b
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("count deposits: %w", err)
	}
	for _, s := range states {
		depositsGauge.WithLabelValues(string(s)).Set(n[s])
	}
	bytesGauge.Set(bytes)
	return nil
}

// moved keeps the gauges between two counts.
func moved(from, to State) {
	if from != "" {
		depositsGauge.WithLabelValues(string(from)).Dec()
	}
	if to != "" {
		depositsGauge.WithLabelValues(string(to)).Inc()
	}
}
