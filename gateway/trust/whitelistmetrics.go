package trust

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// liveList is the Space whose list the gauges look at when they are read.
var liveList atomic.Pointer[Space]

var (
	fetchedLists = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_trust_list_fetched_total",
		Help: "Looks for a newer white list, by what came of them: taken and unchanged are good, with the rest the list in force stays."},
		[]string{"result"}) // taken, unchanged, waiting, refused, down, timeout, tls, redirect, status, size, local

	_ = listGauge("passerelle_trust_list_age_seconds", "Age of the white list by its own date; +Inf where none was ever loaded, NaN where none is configured.",
		func(s *WhiteListStatus) float64 {
			if s.Date.IsZero() {
				return math.Inf(1) // every alarm on age rings
			}
			return s.Age.Seconds()
		})
	_ = listGauge("passerelle_trust_list_alarm_age_seconds", "Age of the white list at which the operator wants to be told (trust.white_list.alarm_age).",
		func(s *WhiteListStatus) float64 { return s.AlarmAge.Seconds() })
	_ = listGauge("passerelle_trust_list_max_age_seconds", "Age of the white list from which mail of the trust space waits (trust.white_list.max_age).",
		func(s *WhiteListStatus) float64 { return s.MaxAge.Seconds() })
	_ = listGauge("passerelle_trust_list_domains", "Domains in the white list in force.", func(s *WhiteListStatus) float64 { return float64(s.Domains) })
	_ = listGauge("passerelle_trust_list_skipped", "Entries of the white list in force that cannot be read.", func(s *WhiteListStatus) float64 { return float64(s.Skipped) })
	_ = listGauge("passerelle_trust_list_waiting", "1 while a list that lost many domains waits for the operator (passerelle whitelist accept), else 0.",
		func(s *WhiteListStatus) float64 {
			if s.Waiting != nil {
				return 1
			}
			return 0
		})
	_ = listGauge("passerelle_trust_list_failed_seconds", "When a look for a newer white list last went wrong, in seconds since 1970; 0 is never.",
		func(s *WhiteListStatus) float64 {
			if s.Failed.IsZero() {
				return 0
			}
			return float64(s.Failed.Unix())
		})
)

func listGauge(name, help string, of func(*WhiteListStatus) float64) prometheus.GaugeFunc {
	return promauto.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		if s := liveList.Load(); s != nil {
			return of(s.WhiteList())
		}
		return math.NaN()
	})
}
