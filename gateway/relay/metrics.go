package relay

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	handedOn = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_relay_handed_on_total",
		Help: "Recipients handed on to a hop, by what became of them.",
	}, []string{
		"hop",    // its name in the config
		"result", // accepted, deferred, failed
	})
	authed = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_relay_auth_total",
		Help: "Sessions with a hop that wants to know who we are, by whether it let us in.",
	}, []string{
		"hop",
		"result", // accepted, refused
	})
	connections = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "passerelle_relay_connections",
		Help: "Open connections to a hop, busy and kept.",
	}, []string{"hop"})
	stepSeconds = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "passerelle_relay_step_seconds",
		Help:    "Time that a step towards a hop took.",
		Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 30, 120, 600},
	}, []string{
		"step", // dial, banner, hello, starttls, auth, mail, rcpt, data, content, final, rset, quit
	})
)
