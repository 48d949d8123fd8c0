package collect

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Label box: the name of the entry in the config, never an address.
var (
	mMessages = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_collect_messages_total",
		Help: "Messages of operator mailboxes, by what became of them; each try that ended in later counts."}, []string{"box", "result"}) // taken, refused, later, known
	mFailures = promauto.NewCounterVec(prometheus.CounterOpts{Name: "passerelle_collect_failures_total",
		Help: "Faults with an operator's mailbox, by where: those of after leave the session open."}, []string{"box", "step"}) // connect, login, folder, session, after
	mSuccess = promauto.NewGaugeVec(prometheus.GaugeOpts{Name: "passerelle_collect_last_success_seconds",
		Help: "When a mailbox was last looked through without a fault, in seconds since 1970; 0: not since the start."}, []string{"box"})
)

func forget(box string) {
	l := prometheus.Labels{"box": box}
	mMessages.DeletePartialMatch(l)
	mFailures.DeletePartialMatch(l)
	mSuccess.DeletePartialMatch(l)
}
