package directory

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// live is the directory that the gauges look at when they are read: a mirror that vanished shows without anybody asking.
var live atomic.Pointer[Directory]

var (
	asked = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_directory_asked_total",
		Help: "Questions answered by the directory."}, []string{"verdict"}) // verified, not-listed, could-not-ask

	fetched = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_directory_fetched_total",
		Help: "Looks for a new extraction, by what came of them: imported and unchanged are good, with the rest the mirror in use stays."},
		[]string{"result"}) // imported, unchanged, refused, down, timeout, tls, redirect, status, cut, size, local

	remoteAsked = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_directory_remote_asked_total",
		Help: "Questions to sources over the network."}, []string{"source", "result"}) // fhir, ldap; listed, none, and timeout, tls, down, answer where it could not be asked

	_ = promauto.NewGaugeFunc(prometheus.GaugeOpts{Name: "passerelle_directory_remote_waiting",
		Help: "Addresses that a source over the network has not answered for yet."}, remoteWaiting)
	_ = promauto.NewGaugeFunc(prometheus.GaugeOpts{Name: "passerelle_directory_alarm_age_seconds",
		Help: "Age of the extraction at which the operator wants to be told (directory.alarm_age)."}, alarmAge)
	fhirCalls = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_directory_fhir_calls_total",
		Help: "Calls of the national FHIR service."}, []string{"result"}) // answered, failed, held

	_ = promauto.NewGaugeFunc(prometheus.GaugeOpts{Name: "passerelle_directory_age_seconds",
		Help: "Age of the national extraction; +Inf where there is none to ask, NaN where none was ever set."}, age)
	_ = entries("PER", func(s Status) int { return s.PER })
	_ = entries("ORG", func(s Status) int { return s.ORG })
	_ = entries("contact", func(s Status) int { return s.Contacts })
)

func age() float64 {
	d := live.Load()
	if d == nil {
		return math.NaN()
	}
	switch s := d.Status(); {
	case !s.Configured:
		return math.NaN()
	case s.AsOf.IsZero():
		return math.Inf(1) // every alarm on age rings
	default:
		return s.Age.Seconds()
	}
}

func entries(kind string, of func(Status) int) prometheus.GaugeFunc {
	return promauto.NewGaugeFunc(prometheus.GaugeOpts{Name: "passerelle_directory_entries", Help: "Mailboxes in the mirror, and entries of the clinic's list.",
		ConstLabels: prometheus.Labels{"kind": kind}}, func() float64 {
		if d := live.Load(); d != nil {
			return float64(of(d.Status()))
		}
		return 0
	})
}

func alarmAge() float64 {
	if d := live.Load(); d != nil {
		return d.cfg.AlarmAge.Seconds()
	}
	return defaultAlarmAge.Seconds()
}

func remoteWaiting() float64 {
	if d := live.Load(); d != nil {
		if a := d.asking.Load(); a != nil {
			return float64(a.waiting())
		}
	}
	return 0
}
