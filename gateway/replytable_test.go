package gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// replyTable is the table of docs/operations.md: what a client is told. A key is "451 4.3.0 words", `{}` standing for what differs.
type replyTable struct {
	rows  map[string]*regexp.Regexp
	heard map[string]bool
}

var hole = regexp.MustCompile(`\{[^}]*\}`)

func readReplyTable(t *testing.T) *replyTable {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## What Postfix shows and what it means\n")
	section, _, _ = strings.Cut(section, "\n## ")
	tab := &replyTable{rows: map[string]*regexp.Regexp{}, heard: map[string]bool{}}
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| `") || len(cells) != 6 {
			continue
		}
		key := hole.ReplaceAllString(strings.Trim(cells[1], " `")+" "+strings.TrimSpace(cells[2]), "{}")
		expr := strings.ReplaceAll(regexp.QuoteMeta(key), `\{\}`, "(.+)")
		tab.rows[key] = regexp.MustCompile("^" + expr + "$")
	}
	if len(tab.rows) < 50 {
		t.Fatalf("%d rows: the table is not where it was", len(tab.rows))
	}
	return tab
}

// hear holds a reply that a client got against the row that it must be: words is how that row's words begin.
func (tab *replyTable) hear(t *testing.T, line, words string) {
	t.Helper()
	best := ""
	for key, expr := range tab.rows { // the row with the most words of its own
		if expr.MatchString(line) && len(hole.ReplaceAllString(key, "")) > len(hole.ReplaceAllString(best, "")) {
			best = key
		}
	}
	if best == "" || len(line) > 510 {
		t.Errorf("no row of docs/operations.md is %q (%d octets), want %q", line, len(line), words)
		return
	}
	if !strings.Contains(best, words) {
		t.Errorf("got %q, want %q", line, words)
	}
	tab.heard[best] = true
}

// elsewhere are the rows that no session of this test can bring about, each with where it is held.
var elsewhere = map[string]string{
	"421 4.3.0 Incident interne de la passerelle, nouvel essai plus tard":                                                                                            "the library's own panic guard",
	"451 4.4.2 Relais {}: le relais suivant ne repond plus":                                                                                                          "takes minutes; relay: TestFaults",
	"451 4.4.5 Relais {}: pas de connexion libre vers le relais suivant":                                                                                             "takes a minute; relay: its tests of slots",
	"451 4.3.5 Relais {}: relais suivant mal configure sur la passerelle":                                                                                            "config refuses it; relay: its tests of hops",
	"451 4.3.2 Relais {}: arret de la passerelle, nouvel essai plus tard":                                                                                            "relay: its tests of Close",
	"451 4.4.3 Relais {}: nom du relais suivant introuvable (DNS), nouvel essai plus tard":                                                                           "deploy: TestFaultDNS",
	"451 4.3.1 Relais {}: trop de connexions ouvertes sur la passerelle, nouvel essai plus tard":                                                                     "deploy: TestFaultDescriptors",
	"452 4.3.1 Plus de place sur la passerelle, nouvel essai plus tard":                                                                                              "deploy: TestFaultDepositsFull",
	"451 4.4.2 Relais {} lent: l'envoi continue, le prochain essai dira son issue":                                                                                   "takes a relay.timeout: TestSlowHopGoesOnBehindTheReply",
	"451 4.4.5 Relais {} sature: il ne repond plus aux envois en cours, nouvel essai plus tard":                                                                      "takes stalled sessions: TestStalledHopIsNotGivenMore",
	"454 4.7.0 TLS indisponible pour l'instant, nouvel essai plus tard":                                                                                              "smtpd: TestHandshakesAreLimited",
	"451 4.3.0 Signature DKIM impossible, nouvel essai plus tard":                                                                                                    "a temp file that breaks between receipt and signature",
	"451 4.3.0 Revocation du certificat du destinataire inconnue pour le moment, nouvel essai plus tard":                                                             "wants an authority without its lists: TestCertificates, TestCertificateRevokedLater",
	"451 4.3.0 Cle du destinataire introuvable pour le moment, nouvel essai plus tard":                                                                               "wants a Web Key Directory that is away: TestKeyDirectory",
	"451 4.3.0 Signature S/MIME impossible, nouvel essai plus tard":                                                                                                  "the same",
	"451 4.7.1 Domaine MSSante sorti de la liste blanche entre-temps, nouvel essai plus tard":                                                                        "a change of the list within one message",
	"451 4.4.3 annuaire national en cours de mise a jour, nouvel essai plus tard":                                                                                    "a race that Ask loses three times",
	"451 4.4.3 annuaire national non consulte, nouvel essai plus tard":                                                                                               "the stop's deadline",
	"451 4.4.3 annuaire injoignable, nouvel essai plus tard":                                                                                                         "a source that fails: TestNoFHIRStateOpens",
	"451 4.4.3 annuaire sans reponse pour ce destinataire, nouvel essai plus tard":                                                                                   "directory: TestRemoteOddAddress",
	"451 4.4.3 annuaire pas encore interroge pour ce destinataire, nouvel essai plus tard":                                                                           "directory: TestRemoteInTheBackground",
	"451 4.4.3 derniere reponse de l'annuaire trop ancienne, nouvel essai plus tard":                                                                                 "an answer that grew old: TestNoFHIRStateOpens",
	"550 5.1.1 Ce patient n'a pas de boite Mon espace sante, ecrivez-lui a son adresse courriel (lien de retrait)":                                                   "TestPatientWithoutMailbox",
	"550 5.7.1 Ce patient n'a pas de boite Mon espace sante et s'oppose aux courriels, joignez-le autrement":                                                         "TestPatientWithoutMailbox",
	"550 5.1.1 Ce patient n'a pas de boite Mon espace sante, il n'y a pas d'echange a clore":                                                                         "TestPatientWithoutMailbox",
	"550 5.1.6 Ce destinataire a plusieurs adresses MSSante, ecrivez-lui a celle qu'il lit: {}":                                                                      "TestKnownAsSeveral",
	"550 5.7.1 Envoi a un patient depuis une adresse que personne ne lit (noreply): utilisez une adresse lue, ou demandez notify a la regle au service informatique": "TestApplicationsNotify",
	"550 5.7.1 Cette adresse ne lit pas de courrier: repondez sur la page du lien recu, ou appelez l'etablissement":                                                  "TestNoticeAnsweredByMail",
	"451 4.4.3 service en cours d'arret, nouvel essai plus tard":                                                                                                     "the directory closes behind the last session",
	"451 4.3.5 Envoi de SMS non configure sur la passerelle, a completer dans sms.url":                                                                               "config refuses such a rule",
	"550 5.7.1 Aucune phrase convenue avec ce destinataire: l'ajouter dans la liste de la clinique":                                                                  "TestProofsThatRulesAskFor",
	"550 5.7.1 Identite du destinataire inconnue: donner nom de naissance, prenoms et date de naissance (ou RPPS) dans la liste de la clinique ou avec le message":   "TestProofsThatRulesAskFor",
	"550 5.7.1 Ce destinataire ne veut plus recevoir vos messages par lien de retrait, joignez-le autrement":                                                         "TestRefusals",
	"451 4.3.0 Consultation des blocages impossible, nouvel essai plus tard":                                                                                         "a database that fails within one message",
}

// unsaid are replies of the source that no client ever gets: what stands before them refuses first. They have no row.
var unsaid = map[string]string{
	"530 5.7.0 STARTTLS avec certificat client exige":                                               "smtpd refuses MAIL before",
	"451 4.4.3 Annuaire de sante momentanement injoignable, nouvel essai automatique, rien a faire": "the directory's own words take its place",
	"451 4.7.0 Relais {}: authentification impossible sans TLS":                                     "relay's check of the hop refuses before",
	"553 5.1.7 Relais {}: adresse d'expediteur invalide":                                            "smtpd reads addresses",
	"553 5.1.3 Relais {}: adresse de destinataire invalide":                                         "smtpd reads addresses",
	"554 5.6.0 Relais {}: message refuse: CR ou LF isole":                                           "smtpd refuses the message",
}

// The table and the source know the same replies.
func TestReplyTableIsWhole(t *testing.T) {
	tab, said := readReplyTable(t), sourceReplies(t)
	for key, pos := range said {
		if tab.rows[key] == nil && unsaid[key] == "" {
			t.Errorf("%s: no row in docs/operations.md for\n%s", pos, key)
		}
	}
	for key := range tab.rows {
		if said[key] == "" && key != "{} Relais {}: {}" && key != "550 5.7.1 {}" {
			t.Errorf("docs/operations.md has a row that nothing in the source says:\n%s", key)
		}
	}
	for key := range unsaid {
		if said[key] == "" {
			t.Errorf("the source does not hold %q any more", key)
		}
	}
	for key := range said {
		if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not ASCII: %q", key)
		}
	}
}

// sourceReplies finds the replies in the source: key to position. Whoever gives a client a text does it by one of the forms named here;
// a new constructor is found by its results and fails.
func sourceReplies(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{".", "smtpd", "relay", "directory", "../policy"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		fset := token.NewFileSet()
		var parsed []*ast.File
		consts := map[string]ast.Expr{}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
			ast.Inspect(f, func(n ast.Node) bool {
				if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
					for i, id := range v.Names {
						if _, text := v.Values[i].(*ast.BasicLit); text {
							consts[id.Name] = v.Values[i]
						}
					}
				}
				return true
			})
		}
		s := &sweep{t: t, dir: dir, fset: fset, consts: consts, out: out}
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool { s.node(n); return true })
		}
	}
	return out
}

type sweep struct {
	t      *testing.T
	dir    string
	fset   *token.FileSet
	consts map[string]ast.Expr
	out    map[string]string
}

func (s *sweep) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		s.constructor(n)
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		a := n.Args
		switch {
		case s.dir == "." && name == "refuse" && len(a) == 4:
			s.add(n, s.word(a[0]), a[1], a[2], "")
		case s.dir == "." && name == "later" && len(a) == 2:
			s.put(n, "451 4.3.0 "+s.text(a[0]))
		case s.dir == "." && name == "unset" && len(a) == 2:
			s.put(n, "451 4.3.5 "+s.text(a[0]))
		case s.dir == "relay" && name == "temporary" && len(a) == 4:
			s.add(n, "451", a[1], a[2], "Relais {}: ")
		case s.dir == "relay" && name == "permanent" && len(a) == 4:
			s.add(n, s.word(a[1]), a[2], a[3], "Relais {}: ")
		}
	case *ast.CompositeLit:
		name := ""
		switch x := n.Type.(type) {
		case *ast.Ident:
			name = x.Name
		case *ast.SelectorExpr:
			name = x.Sel.Name
		}
		if s.dir == "directory" && name == "fault" && len(n.Elts) == 2 {
			s.put(n, "451 4.4.3 "+s.text(n.Elts[1]))
		}
		if name == "Reply" && len(n.Elts) == 3 {
			e := slices.Clone(n.Elts)
			for i := range e {
				if kv, ok := e[i].(*ast.KeyValueExpr); ok {
					e[i] = kv.Value
				}
			}
			s.add(n, s.word(e[0]), e[1], e[2], "")
		}
	case *ast.ValueSpec:
		for i, id := range n.Names {
			if s.dir == "../policy" && strings.HasPrefix(id.Name, "text") && i < len(n.Values) {
				code := "550 5.7.1 "
				if id.Name == "textLater" || id.Name == "textBroken" || id.Name == "textWhiteList" {
					code = "451 4.4.3 "
				}
				s.put(n, code+s.text(n.Values[i]))
			}
		}
	}
}

// constructor fails where a function makes replies of a text and this sweep does not know it.
func (s *sweep) constructor(f *ast.FuncDecl) {
	if f.Type.Results == nil || s.dir == "../policy" || s.dir == "directory" {
		return
	}
	makes, takes := false, false
	for _, r := range f.Type.Results.List {
		if p, ok := r.Type.(*ast.StarExpr); ok {
			if id, ok := p.X.(*ast.Ident); ok {
				makes = makes || id.Name == "fault" || id.Name == "Reply" || id.Name == "Error"
			}
		}
	}
	for _, p := range f.Type.Params.List {
		for _, id := range p.Names {
			takes = takes || id.Name == "text"
		}
	}
	if makes && takes && !slices.Contains([]string{"refuse", "later", "unset", "temporary", "permanent"}, f.Name.Name) {
		s.t.Errorf("%s: %s makes replies, teach the sweep about it", s.fset.Position(f.Pos()), f.Name.Name)
	}
}

func (s *sweep) add(n ast.Node, code string, enhanced, text ast.Expr, prefix string) {
	x := "{}"
	if lit, ok := enhanced.(*ast.CompositeLit); ok && len(lit.Elts) == 3 {
		x = s.word(lit.Elts[0]) + "." + s.word(lit.Elts[1]) + "." + s.word(lit.Elts[2])
	}
	words := s.text(text)
	if words == "{}" || x == "{}" { // handed through
		return
	}
	s.put(n, code+" "+x+" "+prefix+words)
}

func (s *sweep) put(n ast.Node, key string) {
	if len(strings.Fields(key)) > 2 && !strings.HasSuffix(key, ".0 {}") && !strings.HasSuffix(key, ".5 {}") {
		s.out[key] = s.fset.Position(n.Pos()).String()
	}
}

func (s *sweep) word(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		return lit.Value
	}
	return "{}"
}

var verb = regexp.MustCompile(`%[a-z]`)

// text gives the words of an expression: literals, constants, sums and Sprintf.
func (s *sweep) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if v, err := strconv.Unquote(e.Value); err == nil {
			return v
		}
	case *ast.Ident:
		if v := s.consts[e.Name]; v != nil {
			return s.text(v)
		}
	case *ast.BinaryExpr:
		return s.text(e.X) + s.text(e.Y)
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" {
			return verb.ReplaceAllString(s.text(e.Args[0]), "{}")
		}
	}
	return "{}"
}
