package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"passerelle/config"
	"passerelle/gateway/message"
	"passerelle/gateway/relay"
	"passerelle/gateway/trust"
)

// Level says how bad a finding is.
type Level string

const (
	Fine Level = "ok"
	Warn Level = "warn" // mail goes, but somebody has to act before it does not
	Fail Level = "fail" // some mail waits, is refused, or will not be read
)

// Finding is one line of the doctor. The names of checks and fields are stable: monitoring reads them.
type Finding struct {
	Level   Level  `json:"level"`
	Check   string `json:"check"`
	About   string `json:"about,omitempty"` // the domain, hop, file or certificate
	Step    string `json:"step,omitempty"`  // of a certificate or a server: list, server, connect, banner, hello, starttls, certificate, chain ...
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"`
}

// Examination is what Doctor is asked to do.
type Examination struct {
	Domains []string       // of the trust space, whose servers are spoken with step by step
	Each    time.Duration  // the longest that one check may take
	Roots   *x509.CertPool // of the pages that patients see; nil: the system's
	// Resolver is asked for names; nil: the system's.
	Resolver *net.Resolver
}

// Worst is the level of the worst finding.
func Worst(list []Finding) Level {
	worst := Fine
	for _, f := range list {
		if f.Level == Fail || f.Level == Warn && worst == Fine {
			worst = f.Level
		}
	}
	return worst
}

// Examine looks whether a gateway's surroundings and its state folder are well, beside the running gateway: it opens what decides, without
// importing anything, sends nothing of a message and changes nothing. What cannot even be opened is a finding.
func Examine(ctx context.Context, cfg *config.Config, log *slog.Logger, o Examination) []Finding {
	clean := cleaner(cfg)
	var list []Finding
	g, err := openBeside(ctx, cfg, log, false)
	if err == nil {
		g.tls, err = listenersTLS(cfg, log)
	}
	if err != nil {
		s := sheet{check: "config"}
		s.fail("", err.Error(), "the gateway would not start with this file: `passerelle check` says the same; mend it first")
		list = s.list
		if g != nil {
			g.Close()
		}
		g = &Gateway{lasting: &lasting{exchangers: newExchangers(time.Now)}, now: time.Now} // the one that runs may be well
	} else {
		defer g.Close()
	}
	list = append(list, g.doctor(ctx, cfg, o)...)
	for i := range list {
		list[i].About, list[i].Finding = clean(list[i].About), clean(list[i].Finding)
	}
	return list
}

// doctor is one examination.
type doctor struct {
	*Gateway
	cfg    *config.Config
	o      Examination
	relay  *relay.Relay
	clocks clocks
}

// check is one thing to look at. It ends when ctx does, unless the system holds it.
type check struct {
	name string
	look func(context.Context, *sheet)
}

func (g *Gateway) doctor(ctx context.Context, cfg *config.Config, o Examination) []Finding {
	if o.Each <= 0 {
		o.Each = 10 * time.Second
	}
	t := relay.Timeouts{Dial: o.Each, Banner: o.Each, Hello: o.Each, StartTLS: o.Each}
	g.exchangers.resolver = o.Resolver
	d := &doctor{Gateway: g, cfg: cfg, o: o, relay: relay.New(relay.Config{Log: slog.New(slog.DiscardHandler), Timeouts: t, Resolver: o.Resolver})}
	defer d.relay.Close()
	list := d.sideBySide(ctx, d.checks())
	last := []check{{"clock", d.clock}} // these tell of whom the others asked
	if d.space != nil {
		last = append([]check{{"trust.revocation", d.revocation}}, last...)
	}
	return append(list, d.sideBySide(ctx, last)...)
}

// checks in the order in which they are shown.
func (d *doctor) checks() []check {
	list := []check{{"process", d.process}, {"disk", d.disk}, {"portal", d.patientsPage}, {"shared", d.sharedVault}, {"sms.credit", d.smsCredit}, {"dns", d.dns}}
	if d.directory == nil { // it could not be opened
		return list
	}
	list = append(list, check{"hop", d.hops}, check{"certificate", d.certificates}, check{"directory", d.sources}, check{"keys", d.keys})
	if d.space != nil {
		list = append(list, check{"trust.certificate", d.ownCertificate}, check{"trust.listener", d.trustListener}, check{"trust.white_list", d.whiteList})
	}
	if d.submission != nil {
		list = append(list, check{"trust.submission", d.operator})
	}
	if d.cfg.Collects() {
		list = append(list, check{"collect", d.collected})
	}
	for _, domain := range d.o.Domains {
		list = append(list, check{"trust.peer", func(ctx context.Context, s *sheet) { d.peer(ctx, s, domain) }})
	}
	return list
}

// sideBySide runs checks at once and gives their findings in the order of the checks. One that the system holds beyond its time (a dead
// network file system) is left behind and said to be so.
func (d *doctor) sideBySide(ctx context.Context, checks []check) (list []Finding) {
	done := make([]chan []Finding, len(checks))
	end := time.Now().Add(d.o.Each)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	for i, c := range checks {
		done[i] = make(chan []Finding, 1)
		go func() {
			ctx, cancel := context.WithDeadline(ctx, end)
			defer cancel()
			s := &sheet{check: c.name}
			c.look(ctx, s)
			done[i] <- s.list
		}()
	}
	late := time.NewTimer(time.Until(end) + overdue)
	defer late.Stop()
	over := false
	for i, c := range checks {
		if !over {
			select {
			case l := <-done[i]:
				list = append(list, l...)
				continue
			case <-late.C:
				over = true
			}
		}
		select {
		case l := <-done[i]:
			list = append(list, l...)
		default:
			s := sheet{check: c.name}
			s.fail("", "did not end within "+d.o.Each.String(), "something that it asks hangs: a file system, a resolver")
			list = append(list, s.list...)
		}
	}
	return list
}

// overdue is what a check has to notice that its time is over.
const overdue = time.Second

// sheet is where one check writes.
type sheet struct {
	check string
	list  []Finding
}

func (s *sheet) add(l Level, about, finding, remedy string) {
	if l == Fine {
		remedy = ""
	}
	s.list = append(s.list, Finding{Level: l, Check: s.check, About: about, Finding: finding, Remedy: remedy})
}

func (s *sheet) ok(about, finding string, args ...any) {
	s.add(Fine, about, fmt.Sprintf(finding, args...), "")
}
func (s *sheet) warn(about, finding, remedy string) { s.add(Warn, about, finding, remedy) }
func (s *sheet) fail(about, finding, remedy string) { s.add(Fail, about, finding, remedy) }

// cleaner gives what takes secrets of the config and patients' numbers out of a text, whoever put them there. No check should need it.
func cleaner(cfg *config.Config) func(string) string {
	secrets := slices.DeleteFunc(cfg.Secrets(), func(s string) bool { return len(s) < 4 }) // "to" would garble everything and hide nothing
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return func(text string) string {
		for _, s := range secrets {
			text = strings.ReplaceAll(text, s, "<secret>")
		}
		text = strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' || r == '\t' {
				return ' '
			}
			return r
		}, text)
		return insShape.ReplaceAllStringFunc(text, func(s string) string {
			number := strings.TrimSuffix(s, "@")
			valid, _ := trust.ParseINS(message.Address{Local: number, Domain: trust.PatientDomain})
			if !valid && number == s { // the number of an organisation may look like one
				return s
			}
			return "<INS>" + s[len(number):]
		})
	}
}

var insShape = regexp.MustCompile(`[0-9]{5}(?:[0-9]{2}|2[AaBb])[0-9]{8}@?`)

// notExist tells whether there is no such file.
func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
