package smtpd

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	replied = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_smtpd_replied_total", Help: "Replies written, by listener (lmtp, smtp, trust) and SMTP code.",
	}, []string{"listener", "code"})
	received = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "passerelle_smtpd_received_total", Help: "Messages received in whole and given to the gateway, by listener.",
	}, []string{"listener"})
	waiting = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "passerelle_smtpd_waiting", Help: "Connections that wait for a place, by listener.",
	}, []string{"listener"})
	sessions = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "passerelle_smtpd_sessions", Help: "Sessions open now, by listener.",
	}, []string{"listener"})
)
