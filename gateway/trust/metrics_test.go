package trust

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

// TestStatusIsCounted: who was not believed, what was looked for, and until when a list is good.
func TestStatusIsCounted(t *testing.T) {
	src := newShelf(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusBadGateway) })
	w, s, cs, ahead := netSpace(t, src.URL, nil)
	counted := func(do func()) (refused, failed, news float64) {
		a, b, c := mRefused.WithLabelValues(Unproven), mFetched.WithLabelValues("failed"), mFetched.WithLabelValues("new")
		x, y, z := value(t, a), value(t, b), value(t, c)
		do()
		return value(t, a) - x, value(t, b) - y, value(t, c) - z
	}
	if a, b, c := counted(func() { check(t, s, cs) }); a != 1 || b != 1 || c != 0 {
		t.Errorf("away: %v refused, %v failed, %v new", a, b, c)
	}
	src.set(give(w.inter.crlDER(clock.Add(-time.Hour), clock.Add(time.Hour))))
	ahead.Add(int64(firstPause))
	if a, b, c := counted(func() { check(t, s, cs) }); a != 0 || b != 0 || c != 1 {
		t.Errorf("back: %v refused, %v failed, %v new", a, b, c)
	}
	if got := value(t, mNextUpdate.WithLabelValues(src.URL)); got != float64(clock.Add(time.Hour).Unix()) {
		t.Errorf("the list is to be renewed at %v", got)
	}
}
