package console

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Number is one line of the page.
type Number struct{ Name, Labels, Value, Help string }

// Numbers are all metrics of ours in words: counters and gauges as they are, distributions as count and mean.
func Numbers(g prometheus.Gatherer) ([]Number, error) {
	families, err := g.Gather() // what could be gathered comes with the error
	var out []Number
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "passerelle_") {
			continue
		}
		for _, m := range f.GetMetric() {
			out = append(out, Number{Name: f.GetName(), Labels: labels(m), Value: value(m), Help: f.GetHelp()})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name+out[i].Labels < out[j].Name+out[j].Labels })
	return out, err
}

func labels(m *dto.Metric) string {
	var parts []string
	for _, l := range m.GetLabel() {
		parts = append(parts, l.GetName()+"="+l.GetValue())
	}
	return strings.Join(parts, " ")
}

func value(m *dto.Metric) string {
	switch {
	case m.GetCounter() != nil:
		return plain(m.GetCounter().GetValue())
	case m.GetGauge() != nil:
		return plain(m.GetGauge().GetValue())
	case m.GetHistogram() != nil:
		return distribution(m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum())
	case m.GetSummary() != nil:
		return distribution(m.GetSummary().GetSampleCount(), m.GetSummary().GetSampleSum())
	}
	return plain(m.GetUntyped().GetValue())
}

func distribution(n uint64, sum float64) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%d, mean %s", n, plain(sum/float64(n)))
}

func plain(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
