package directory

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"passerelle/gateway/message"
)

// Probed is how one source over the network took a question.
type Probed struct {
	Name string // fhir, ldap
	Took time.Duration
	// Verifies: whom it alone knows waits while it cannot be asked.
	Verifies bool
	// Slow: mail would wait for longer than the source's timeout, and go on without it.
	Slow bool
	// Err is why it could not be asked, nil where it answered; ErrNobody where no domain of its own was given.
	Err error
}

// ErrNobody: the source is asked about none of the domains.
var ErrNobody = errors.New("asked about nobody")

// probeLocal is asked about in a domain of the source's: nobody has it, and no real person is asked about.
const probeLocal = "passerelle-check"

// Probe asks each source over the network, side by side, one question about an address that nobody has, in the first of domains that it is
// asked about at all. Nothing of it is kept. An answer tells that the server is there, that it is who it must be, and that it takes the key or
// the password; not that it lists anybody.
func (d *Directory) Probe(ctx context.Context, domains []string) []Probed {
	out := make([]Probed, len(d.remotes))
	defer d.Hold()()
	var wg sync.WaitGroup
	for i, r := range d.remotes {
		out[i].Name, out[i].Verifies = r.name(), r.Verifies
		n := slices.IndexFunc(domains, r.About)
		if n < 0 {
			out[i].Err = ErrNobody
			continue
		}
		wg.Go(func() {
			start := time.Now()
			_, out[i].Err = r.question(ctx, message.Address{Local: probeLocal, Domain: domains[n]})
			out[i].Took = time.Since(start)
			out[i].Slow = r.OnMail && out[i].Took > r.Timeout
		})
	}
	wg.Wait()
	return out
}
