package trust

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	mRefused = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_trust_refused_total",
		Help: "Peers of the trust space that were not believed, by reason."}, []string{"reason"}) // the reasons of Error
	mNextUpdate = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_trust_crl_next_update_seconds",
		Help: "When a revocation list is to be renewed, in seconds since 1970."}, []string{"list"}) // file or URL
	mFetched = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_trust_crl_fetched_total",
		Help: "Looks for a new revocation list, by result."}, []string{"result"}) // new, unchanged, failed
	mOCSP = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_trust_ocsp_total",
		Help: "Questions to OCSP responders, by answer."}, []string{"answer"}) // good, revoked, failed
)
