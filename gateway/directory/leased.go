package directory

// leased is an open remote with those who need it: each Directory that names it, until it is retired, each who holds one (Hold), and each
// question in hand. The last one who lets go closes it. asking.mu guards users.
type leased struct {
	remote
	users int
}

// lease takes a share of an open remote; false where the last one has let go. a.mu is held.
func (a *asking) lease(o *leased) bool {
	if o.users == 0 {
		return false
	}
	o.users++
	return true
}

// letGo gives a share back; a.mu is held. Closing may wait for a server, so nobody waits for it but close.
func (a *asking) letGo(o *leased) {
	if o.users--; o.users > 0 || a.closed { // close ends what is open then
		return
	}
	delete(a.opened, o)
	a.closing.Go(func() { a.end(o) })
}

func (a *asking) end(o *leased) {
	if err := o.close(); err != nil {
		a.log.Warn("directory: close a source", "source", o.name(), "err", err)
	}
}

// Hold keeps the sources of d open until release is called: a message in hand is asked about under the state that it began under, whatever is
// reloaded meanwhile. Those of a retired Directory may be closed already; it then answers from what they said before.
func (d *Directory) Hold() (release func()) {
	a := d.asking.Load()
	if a == nil || len(d.remotes) == 0 {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	held := make([]*leased, 0, len(d.remotes))
	for _, r := range d.remotes {
		if a.lease(r.leased) {
			held = append(held, r.leased)
		}
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, o := range held {
			a.letGo(o)
		}
	}
}

// Retire says that nothing new begins with d: another one made by With has its place, or d itself was never used. What it alone asks over the
// network is closed when the last one who holds it is done.
func (d *Directory) Retire() {
	a := d.asking.Load()
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.retired {
		return
	}
	d.retired = true
	for _, r := range d.remotes {
		a.letGo(r.leased)
	}
}
