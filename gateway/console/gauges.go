package console

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Gauges are numbers that nobody counts: each is asked for when /metrics is read. A nil function leaves its number out; NaN is "unknown".
type Gauges struct {
	// OldestWaiting is the age in seconds of the oldest recipient still waiting, by reason.
	OldestWaiting func() map[string]float64
	// CertificateDays is how many days each certificate is still good for, by its place in the config ("trust", "listen.lmtp").
	CertificateDays func() map[string]float64
	// Memory is what the budget holds now in bytes, by kind: bodies, buffers, work, spilled.
	Memory func() map[string]float64
	// Observe is 1 in observe mode, when everything leaves unchanged on purpose.
	Observe func() float64
	// Ready is 1 when /readyz answers 200.
	Ready func() float64
}

// Register adds the gauges to r, until remove takes them off again; nil is the default registry.
func (g Gauges) Register(r prometheus.Registerer) (remove func(), err error) {
	if r == nil {
		r = prometheus.DefaultRegisterer
	}
	var errs []error
	var added []prometheus.Collector
	remove = func() {
		for _, c := range added {
			r.Unregister(c)
		}
	}
	add := func(c prometheus.Collector) {
		err := r.Register(c)
		if errs = append(errs, err); err == nil {
			added = append(added, c)
		}
	}
	if g.OldestWaiting != nil {
		add(newGroup("passerelle_gateway_oldest_waiting_seconds", "Age of the oldest recipient still waiting, by reason.", "reason", g.OldestWaiting))
	}
	if g.CertificateDays != nil {
		add(newGroup("passerelle_gateway_certificate_days", "Days that a certificate is still good for, by its place in the config.", "certificate", g.CertificateDays))
	}
	if g.Memory != nil {
		add(newGroup("passerelle_gateway_memory_bytes", "Bytes of the shared budget that are held now, by kind (bodies, buffers, work; spilled lies in temp files).", "kind", g.Memory))
	}
	single := func(name, help string, f func() float64) {
		if f != nil {
			add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
		}
	}
	single("passerelle_gateway_observe", "1 in observe mode, when everything leaves unchanged on purpose, else 0.", g.Observe)
	single("passerelle_gateway_ready", "1 when the gateway can do its work, else 0.", g.Ready)
	if err := errors.Join(errs...); err != nil {
		remove()
		return nil, fmt.Errorf("register gauges: %w", err)
	}
	return remove, nil
}

// group is a gauge with one label whose values are only known when it is asked.
type group struct {
	desc *prometheus.Desc
	ask  func() map[string]float64
}

func newGroup(name, help, label string, ask func() map[string]float64) group {
	return group{desc: prometheus.NewDesc(name, help, []string{label}, nil), ask: ask}
}

func (g group) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

func (g group) Collect(ch chan<- prometheus.Metric) {
	for value, v := range g.ask() {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, value)
	}
}
