package directory

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	at := func(days int) time.Time { return day.AddDate(0, 0, days) }
	rec := func(source string, inactive bool) []Record {
		return []Record{{Address: "a@x.test", Kind: "PER", ID: "10003456786", Source: source, Inactive: inactive}}
	}
	yes := func(n string, d int) Said {
		return Said{Name: n, AsOf: at(d), Verdict: Verified, Verifies: n != sourceLDAP, records: rec(n, false)}
	}
	over := func(n string, d int) Said {
		return Said{Name: n, AsOf: at(d), Verdict: Inactive, Verifies: n != sourceLDAP, records: rec(n, true)}
	}
	no := func(n string, d int) Said {
		return Said{Name: n, AsOf: at(d), Verdict: NotListed, Verifies: n != sourceLDAP}
	}
	away := func(n string) Said {
		return Said{Name: n, Verdict: CouldNotAsk, Why: n + " away", reply: "x", Verifies: n != sourceLDAP}
	}
	for _, c := range []struct {
		name            string
		said            []Said
		ordered         bool
		verdict, source string
		contradictions  int
	}{
		{"one verifies, one is away", []Said{away("extraction"), yes("fhir", 0)}, false, Verified, "fhir", 0},
		{"none verifies, one is away", []Said{no("extraction", 0), away("fhir")}, false, CouldNotAsk, "", 0},
		{"all say no", []Said{no("extraction", 0), no("fhir", 0)}, false, NotListed, "extraction", 0},
		{"absence proves little", []Said{yes("extraction", 0), no("fhir", 1)}, false, Verified, "extraction", 1},
		{"ended in the newer", []Said{yes("extraction", 0), over("fhir", 1)}, false, NotListed, "fhir", 1},
		{"ended in the older", []Said{yes("extraction", 1), over("fhir", 0)}, false, Verified, "extraction", 1},
		{"ended, of one date", []Said{yes("extraction", 0), over("fhir", 0)}, false, NotListed, "fhir", 1},
		{"the operator's order wins over dates", []Said{yes("extraction", 0), over("fhir", 1)}, true, Verified, "extraction", 1},
		{"the operator's order, other way", []Said{over("fhir", 0), yes("extraction", 1)}, true, NotListed, "fhir", 1},
		{"ended, and another is away", []Said{over("fhir", 0), away("extraction")}, false, CouldNotAsk, "", 0},
		{"what does not verify verifies nobody", []Said{no("extraction", 0), yes("ldap", 1)}, false, NotListed, "extraction", 1},
		{"what does not verify takes nothing away", []Said{yes("extraction", 0), over("ldap", 1)}, false, Verified, "extraction", 1},
		{"what does not verify may be away", []Said{no("extraction", 0), away("ldap")}, false, NotListed, "extraction", 0},
		{"nobody verifies", []Said{yes("ldap", 0)}, false, CouldNotAsk, "", 0},
		{"nobody asked", nil, false, CouldNotAsk, "", 0},
	} {
		got := merge(c.said, c.ordered)
		if got.Verdict != c.verdict || got.Source != c.source || len(got.Contradictions) != c.contradictions || len(got.Sources) != len(c.said) {
			t.Errorf("%s: got %s by %q, contradictions %q", c.name, got.Verdict, got.Source, got.Contradictions)
		}
		if (got.Verdict == CouldNotAsk) != (got.Why != "" && got.Reply != "") {
			t.Errorf("%s: why %q, reply %q", c.name, got.Why, got.Reply)
		}
		if got.Verdict == Verified && got.Records[0].Source != got.Source {
			t.Errorf("%s: the first record is of %s", c.name, got.Records[0].Source)
		}
	}
}

func TestMergeRecords(t *testing.T) {
	paperless := true
	first := Record{Address: "a@x.test", Kind: "PER", ID: "1", StructureID: "s1", LastName: "Noël", Source: "extraction", Flags: []string{"x"}}
	second := Record{Address: "a@x.test", ID: "1", StructureID: "s1", LastName: "NOEL", Profession: "Médecin", RedList: true, Dematerialised: &paperless, Source: "fhir", Flags: []string{"y"}}
	elsewhere := Record{Address: "a@x.test", ID: "1", StructureID: "s2", Source: "fhir"}
	ans := merge([]Said{{Name: "extraction", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{first}},
		{Name: "fhir", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{second, elsewhere}}}, false)
	if len(ans.Records) != 2 {
		t.Fatalf("%+v", ans.Records)
	}
	r := ans.Records[0]
	if r.LastName != "Noël" || r.Profession != "Médecin" || !r.RedList || r.Dematerialised == nil || !slices.Equal(r.Flags, []string{"x", "y"}) || !slices.Equal(r.Also, []string{"fhir"}) {
		t.Errorf("%+v", r)
	}
	if len(first.Flags) != 1 {
		t.Error("a source's own record was changed")
	}
	second.LastName, second.ID = "PETIT", "2"
	ans = merge([]Said{{Name: "extraction", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{first}},
		{Name: "fhir", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{second}}}, false)
	if len(ans.Contradictions) != 1 || !strings.Contains(ans.Contradictions[0], "identifier, last name") || strings.Contains(ans.Contradictions[0], "PETIT") {
		t.Errorf("%q", ans.Contradictions)
	}
}

// A rule reads the first record of who is verified: it is never of a practice that has ended, and no word of it comes from a source that does
// not verify.
func TestMergeDecidesOnWhatVerifies(t *testing.T) {
	ended := Record{Address: "a@x.test", Kind: "PER", ID: "1", StructureID: "s1", Profession: "Médecin", Source: "fhir", Inactive: true}
	works := Record{Address: "a@x.test", Kind: "ORG", StructureID: "s2", Source: "fhir"}
	ans := merge([]Said{{Name: "fhir", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{ended, works}}}, false)
	if len(ans.Records) != 2 || ans.Records[0].Inactive || ans.Records[0].Kind != "ORG" {
		t.Errorf("the first record: %+v", ans.Records[0])
	}

	own := Record{Address: "a@x.test", Kind: "ORG", StructureID: "s2", Profession: "Médecin", Category: "Civil", Source: "ldap"}
	works.Source = "extraction"
	for _, said := range [][]Said{
		{{Name: "extraction", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{works}}, {Name: "ldap", AsOf: day, Verdict: Verified, records: []Record{own}}},
		{{Name: "ldap", AsOf: day, Verdict: Verified, records: []Record{own}}, {Name: "extraction", AsOf: day, Verdict: Verified, Verifies: true, records: []Record{works}}},
	} {
		ans = merge(said, true)
		if r := ans.Records[0]; r.Source != "extraction" || r.Profession != "" || r.Category != "" || len(r.Also) != 0 {
			t.Errorf("what does not verify speaks in the record: %+v", r)
		}
		if len(ans.Records) != 2 || ans.Records[1].Profession != "Médecin" {
			t.Errorf("what does not verify is not shown: %+v", ans.Records)
		}
	}
	// Nobody lists it but a source that does not verify: it is shown, and its words are its own.
	ans = merge([]Said{{Name: "ldap", AsOf: day, Verdict: Verified, records: []Record{own}},
		{Name: "fhir", AsOf: day, Verdict: Inactive, Verifies: true, records: []Record{{Address: "a@x.test", StructureID: "s2", Source: "fhir", Inactive: true}}}}, true)
	if ans.Verdict != NotListed || ans.Records[0].Source != "fhir" || ans.Records[0].Profession != "" {
		t.Errorf("%s, %+v", ans.Verdict, ans.Records)
	}
}

func TestIdentifiers(t *testing.T) {
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Record{IDType: "RPPS", ID: "10003456786"}, ""}, {Record{IDType: "RPPS", ID: "10003456789"}, flagRPPS}, {Record{IDType: "RPPS", ID: "1000345678"}, flagRPPS},
		{Record{IDType: "RPPS", ID: "1000345678x"}, flagRPPS}, {Record{IDType: "RPPS"}, ""},
		{Record{IDType: "ADELI", ID: "759300123"}, ""}, {Record{IDType: "ADELI", ID: "2A9300123"}, ""}, {Record{IDType: "ADELI", ID: "2C9300123"}, flagADELI},
		{Record{StructureID: "750712184"}, ""}, {Record{StructureID: "750712185"}, flagStructure}, {Record{StructureID: "1750712184"}, ""},
		{Record{StructureID: "2A0000014"}, ""}, {Record{StructureID: "2B0000012"}, ""}, {Record{StructureID: "2Z0000012"}, flagStructure},
		{Record{StructureID: "73282932000074"}, ""}, {Record{StructureID: "73282932000075"}, flagStructure}, {Record{StructureID: "373282932000074"}, ""},
		{Record{StructureID: "35600000000048"}, ""}, {Record{StructureID: "35600000049837"}, ""}, {Record{StructureID: "R10100000123456"}, flagStructure}, {Record{StructureID: "cabinet-7"}, flagStructure},
		{Record{StructureID: "10003456786001234"}, ""},
	} {
		c.r.flag()
		if got := strings.Join(c.r.Flags, " "); got != c.want {
			t.Errorf("%s %s%s: got %q, want %q", c.r.IDType, c.r.ID, c.r.StructureID, got, c.want)
		}
	}
}

func TestLookalike(t *testing.T) {
	l := newLookalikes([]string{"chu-lyon.mssante.fr", "medecin.mssante.fr", "clinique-tilleuls.fr", "chu1.mssante.fr", "mssante.fr"})
	cs, _ := parseCSV("l.csv", []byte("adresse\n@gmaill.com\n"))
	own := &list{contacts: map[string]*Contact{cs[0].Address: cs[0]}, now: time.Now}
	for domain, want := range map[string]string{
		"gmial.com": "gmail.com", "gmai.com": "gmail.com", "gmaill.com": "gmail.com", "gmail.con": "gmail.com", "gmail.co": "", "mail.gmial.com": "gmail.com", "hotmial.fr": "hotmail.fr",
		"outlok.fr": "outlook.fr", "laposte.ne": "laposte.net", "laposte.bet": "laposte.net", "orangr.fr": "orange.fr", "wanado.fr": "wanadoo.fr", "yaho.fr": "yahoo.fr",
		"mssante.com": "mssante.fr", "medecin.mssante.com": "medecin.mssante.fr", "medecin.mssant.fr": "medecin.mssante.fr", "medecin.mssante.fr.example.com": "medecin.mssante.fr",
		"clinique-tilleul.fr": "clinique-tilleuls.fr", "c1inique-tilleuls.fr": "clinique-tilleuls.fr", "clinique-tilleuls.com": "",
		"xn--gmal-xpa.com": "gmail.com", "xn--mssnte-5nf.fr": "mssante.fr", "rnssante.fr": "mssante.fr", "hotrnail.com": "hotmail.com",
		"cabinet.rnssante.fr": "mssante.fr", "chu-nantes.xn--mssnte-5nf.fr": "mssante.fr", "cabinet.xn--mante-h2ea.fr": "mssante.fr", "mail.0range.fr": "orange.fr", "a.b.c1inique-tilleuls.fr": "clinique-tilleuls.fr",
		"gmail.com": "", "mail.com": "", "email.com": "", "chu2.mssante.fr": "", "chu-brest.mssante.fr": "", "sub.gmail.com": "", "free.fr": "", "example.com": "",
		"bbox.fr": "", "fres.fr": "", "sfe.fr": "", "[192.0.2.1]": "", "": "",
	} {
		if got := l.of(domain, nil); got != want {
			t.Errorf("%s: got %q, want %q", domain, got, want)
		}
		if got := l.of(domain, nil); got != want { // from memory
			t.Errorf("%s again: got %q", domain, got)
		}
	}
	if got := l.of("gmaill.com", own); got != "" {
		t.Errorf("a domain of the clinic's list is flagged as near %s", got)
	}
}

// realDomains receive mail in France (hospitals, agencies, insurers, providers, firms, universities); none is a mistake.
var realDomains = strings.Fields(`
aphp.fr chu-lyon.fr chu-lille.fr chu-nantes.fr chu-rennes.fr chu-brest.fr chu-tours.fr chu-poitiers.fr chu-limoges.fr chu-dijon.fr chu-nice.fr chu-nimes.fr chu-toulouse.fr
chu-bordeaux.fr chu-grenoble.fr chu-rouen.fr chu-caen.fr chu-amiens.fr chu-angers.fr chu-reunion.fr chu-martinique.fr chu-guadeloupe.fr ap-hm.fr hcl.fr chru-strasbourg.fr chru-nancy.fr
ght-bretagne.fr ch-auxerre.fr ch-pau.fr ch-dax.fr ch-agen.fr ch-niort.fr gustaveroussy.fr curie.fr unicancer.fr ramsaysante.fr elsan.care vivalto-sante.com ameli.fr assurance-maladie.fr
sante.gouv.fr ars.sante.fr esante.gouv.fr has-sante.fr anses.fr inserm.fr cnrs.fr inria.fr pasteur.fr efs.sante.fr harmonie-mutuelle.fr mgen.fr maif.fr macif.fr matmut.fr axa.fr allianz.fr
groupama.fr malakoffhumanis.com ag2rlamondiale.fr klesia.fr swisslife.fr generali.fr lcl.fr bnpparibas.com creditmutuel.fr caf.fr cnaf.fr urssaf.fr pole-emploi.fr francetravail.fr
impots.gouv.fr dgfip.finances.gouv.fr interieur.gouv.fr justice.fr education.gouv.fr ac-lyon.fr ac-paris.fr ac-lille.fr univ-lyon1.fr univ-lyon2.fr univ-lille.fr univ-nantes.fr univ-rennes.fr
sorbonne-universite.fr u-paris.fr u-bordeaux.fr polytechnique.edu ens.fr ens-lyon.fr sncf.fr ratp.fr edf.fr engie.com enedis.fr grdf.fr veolia.com suez.com laposte.com laposte.fr
chronopost.fr dhl.com ups.com fedex.com amazon.fr amazon.com apple.com google.com microsoft.com ovh.net ovh.com gandi.net ionos.fr ikoula.com scaleway.com online.net bouyguestelecom.fr
sfr.com free.org orange.com numericable.com redbysfr.fr lebara.fr laboratoire-cerba.com biogroup.fr cerballiance.fr eurofins.com synlab.fr inovie.fr unilabs.com doctolib.fr doctolib.com maiia.com
lifen.fr lifen.health apicrypt.org medimail.fr mailiz.mssante.fr hellodoc.fr cegedim.com dedalus.com maincare.fr softwaymedical.fr philips.com siemens-healthineers.com gehealthcare.com roche.com
sanofi.com servier.com pierre-fabre.com biomerieux.com stago.com bd.com baxter.com fresenius.com airliquide.com linde-homecare.fr ordre.medecin.fr medecin.fr pharmacien.fr infirmier.fr
notaires.fr avocat.fr avocats-lyon.fr huissier-justice.fr lyon.fr paris.fr nantes.fr rennes.fr grandlyon.com departement13.fr hautsdefrance.fr iledefrance.fr proton.ch fastmail.fm zoho.eu
hey.com tuta.io mailbox.org riseup.net startmail.com runbox.com migadu.com infomaniak.com ik.me netcourrier.com vivaldi.net disroot.org gmx.us bk.ru mail.ru list.ru inbox.lv seznam.cz wp.pl
onet.pl interia.pl libero.it alice.it tin.it virgilio.it t-online.de freenet.de arcor.de web.fr ziggo.nl kpnmail.nl xs4all.nl hetnet.nl planet.nl home.nl live.nl live.se live.dk hotmail.nl
hotmail.ca hotmail.ch hotmail.se outlook.es outlook.it outlook.ie outlook.pt yahoo.be yahoo.com.br yahoo.co.jp yahoo.in rocketmail.com att.net verizon.net comcast.net cox.net bellsouth.net
sbcglobal.net shaw.ca rogers.com bell.net sympatico.ca btinternet.com virginmedia.com sky.com talktalk.net eircom.net bigpond.com optusnet.com.au`)

func TestLookalikeFalsePositives(t *testing.T) {
	l := newLookalikes([]string{"medecin.mssante.fr", "chu-lyon.mssante.fr", "clinique-tilleuls.fr"})
	flagged := 0
	for _, d := range realDomains {
		if of := l.of(d, nil); of != "" {
			flagged++
			t.Errorf("%s is taken for a mistaken %s", d, of)
		}
	}
	t.Logf("%d of %d real domains flagged", flagged, len(realDomains))
}
