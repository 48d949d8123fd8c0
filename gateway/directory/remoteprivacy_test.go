package directory

import (
	"context"
	"testing"
	"time"

	"passerelle/gateway/message"
)

// What the config no longer lets a source be asked about is neither asked in the background nor kept: a domain that left the white list, and a
// patient's address that an earlier version asked about and wrote down.
func TestRemoteForgetsWhatItMayNotAsk(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: day.Add(time.Hour)}
	f := &far{as: "fhir", answer: none}
	d := withFar(t, dir, c, f, Asking{Every: 24 * time.Hour, Verifies: true})
	patient, other := address(t, "255081416802538@patients.test"), address(t, "b@x.test")
	for _, a := range []message.Address{patient, other} {
		until(t, "never answered", func() bool { return d.Ask(t.Context(), a).Verdict == NotListed })
	}
	stored := func() (n int) {
		if err := d.asking.Load().db.Read().QueryRow("SELECT count(*) FROM remote_answer WHERE address = ?", patient.Key()).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "never written down", func() bool { return stored() == 1 })

	c.add(48 * time.Hour) // both are due again
	told := make(chan string, 100)
	f.set(func(_ context.Context, a message.Address) ([]Record, error) { told <- a.Domain; return nil, nil })
	spec := remoteSpec{key: "fhir of a test", config: 1, Asking: Asking{Every: 24 * time.Hour, Verifies: true, About: func(d string) bool { return d != "patients.test" }}}
	n, err := d.With(t.Context(), Config{remotes: []remoteSpec{spec}})
	if err != nil {
		t.Fatal(err)
	}
	a := n.asking.Load()
	a.mu.Lock()
	k := answerKey{spec.key, patient.Key()}
	a.enqueue(a.answers[k], k, patient) // a question that waited while the config changed
	a.mu.Unlock()
	a.sweep()
	until(t, "the other is not asked again", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.answers[answerKey{spec.key, other.Key()}].asked.Equal(c.now())
	})
	for len(told) > 0 {
		if domain := <-told; domain == "patients.test" {
			t.Error("the source was asked about a patient")
		}
	}
	until(t, "the patient's address stays on the disk", func() bool { return stored() == 0 })
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answers[answerKey{spec.key, patient.Key()}] != nil {
		t.Error("the patient's address stays in memory")
	}
}
