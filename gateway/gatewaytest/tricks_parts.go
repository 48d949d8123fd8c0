package gatewaytest

import "strings"

// types are tricks with the media type and its parameters.
func (k *trickKit) types() (out []trick) {
	add := func(name, entity string) { out = append(out, trick{name: name, entity: entity}) }
	body := "\n--b\n" + k.plain + "\n--b\n" + k.file + "\n--b--\n"
	other := "\n--b\n" + k.plain + "\n--b--\n--c\n" + k.file + "\n--c--\n"
	for name, typ := range map[string]string{
		"type-twice":            "multipart/mixed; boundary=b\nContent-Type: text/plain",
		"type-twice-plain":      "text/plain\nContent-Type: multipart/mixed; boundary=b",
		"type-case-twice":       "text/plain\ncontent-type: multipart/mixed; boundary=b",
		"type-empty-first":      "\nContent-Type: multipart/mixed; boundary=b",
		"type-blank-colon":      "text/plain\nContent-Type : multipart/mixed; boundary=b",
		"type-tab-colon":        "text/plain\nContent-Type\t: multipart/mixed; boundary=b",
		"type-colon-next-line":  "text/plain\nContent-Type\n : multipart/mixed; boundary=b",
		"type-comment":          "multipart/mixed (text/plain); boundary=b",
		"type-comment-boundary": "multipart/mixed; (boundary=c) boundary=b",
		"type-comment-inside":   "multi(x)part/mixed; boundary=b",
		"type-comment-nested":   "multipart/mixed; boundary=(a(b)c)b",
		"type-folded-token":     "multi\n part/mixed; boundary=b",
		"type-folded-blank":     "multipart/mixed;\n \n boundary=b",
		"type-quoted":           "\"multipart/mixed\"; boundary=b",
		"type-encoded-word":     "=?utf-8?Q?multipart/mixed?=; boundary=b",
		"type-comma":            "text/plain, multipart/mixed; boundary=b",
		"type-three-pieces":     "multipart/mixed/text; boundary=b",
		"type-no-slash":         "multipart; boundary=b",
		"type-star":             "multipart/*; boundary=b",
		"type-unknown":          "multipart/x-invented; boundary=b",
		"type-plain-boundary":   "text/plain; boundary=b",
		"type-8bit":             "multipart/mixed\u00a0; boundary=b",
		"type-semicolons":       "multipart/mixed;; boundary=b",
		"type-no-semicolon":     "multipart/mixed boundary=b",
		"type-NUL":              "text/plain\x00; x=\nX: multipart/mixed; boundary=b",
		"boundary-blank-equals": "multipart/mixed; boundary = b",
		"boundary-blank-end":    "multipart/mixed; boundary=\"b \"",
		"boundary-escaped":      "multipart/mixed; boundary=\"\\b\"",
		"boundary-angles":       "multipart/mixed; boundary=\"<b>\"",
		"boundary-quotes":       "multipart/mixed; boundary='b'",
		"boundary-open-quote":   "multipart/mixed; boundary=\"b",
		"boundary-half-quote":   "multipart/mixed; boundary=b\"",
		"boundary-encoded":      "multipart/mixed; boundary*=us-ascii''%62",
		"boundary-pieces":       "multipart/mixed; boundary*0=\"\"; boundary*1=b",
		"boundary-word":         "multipart/mixed; boundary=\"=?us-ascii?Q?b?=\"",
		"boundary-folded":       "multipart/mixed; boundary=\"\n b\"",
		"boundary-case":         "multipart/mixed; BOUNDARY=b",
		"boundary-invisible":    "multipart/mixed; boundary=\"b\u200b\"",
		"boundary-after-name":   "multipart/mixed; x=\"; boundary=c; y=\"; boundary=b",
		"boundary-none":         "multipart/mixed",
		"boundary-empty":        "multipart/mixed; boundary=\"\"",
	} {
		add(name, "Content-Type: "+typ+"\n"+body)
	}
	for name, typ := range map[string]string{
		"boundary-two":           "multipart/mixed; boundary=b; boundary=c",
		"boundary-two-reversed":  "multipart/mixed; boundary=c; boundary=b",
		"boundary-both-forms":    "multipart/mixed; boundary=b; boundary*=us-ascii''c",
		"boundary-both-pieces":   "multipart/mixed; boundary=b; boundary*0=c",
		"boundary-two-cases":     "multipart/mixed; Boundary=b; boundary=c",
		"boundary-second-type":   "multipart/mixed; boundary=b\nContent-Type: multipart/mixed; boundary=c",
		"boundary-in-the-epilog": "multipart/mixed; boundary=b",
	} {
		add(name, "Content-Type: "+typ+"\n"+other)
	}
	return byName(out)
}

// boundaries are tricks with the lines between the parts.
func (k *trickKit) boundaries() (out []trick) {
	add := func(name, entity string, change ...func(string) string) {
		t := trick{name: name, entity: entity}
		if len(change) > 0 {
			t.change = change[0]
		}
		out = append(out, t)
	}
	swap := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	whole := mixed(k.plain, k.file)
	add("preamble", strings.Replace(whole, "\n\n", "\n\n"+k.text, 1))
	add("preamble-part", strings.Replace(whole, "\n\n", "\n\n--c\n"+k.file+"\n--c--\n", 1))
	add("epilogue", mixed(k.plain)+k.text)
	add("epilogue-part", mixed(k.plain)+"--b\n"+k.file+"\n--b--\n")
	add("epilogue-uuencode", mixed(k.plain)+k.uu)
	add("final-missing", strings.Replace(whole, "--b--\n", "", 1))
	add("final-early", "Content-Type: multipart/mixed; boundary=b\n\n--b\n"+k.plain+"\n--b--\n\n--b\n"+k.file+"\n--b--\n")
	add("final-blank", strings.Replace(whole, "--b--\n", "--b --\n", 1))
	add("final-one-dash", strings.Replace(whole, "--b--\n", "--b-\n", 1))
	add("goes-on", strings.Replace(whole, "\n--b\n"+k.file, "\n--b x\n"+k.file, 1))
	add("goes-on-letters", strings.Replace(whole, "\n--b\n"+k.file, "\n--bb\n"+k.file, 1))
	add("trailing-blanks", strings.ReplaceAll(whole, "--b\n", "--b \t \n"))
	add("leading-blank", strings.Replace(whole, "\n--b\n"+k.file, "\n --b\n"+k.file, 1))
	add("one-dash", strings.Replace(whole, "\n--b\n"+k.file, "\n-b\n"+k.file, 1))
	add("three-dashes", strings.Replace(whole, "\n--b\n"+k.file, "\n---b\n"+k.file, 1))
	add("case", strings.Replace(whole, "\n--b\n"+k.file, "\n--B\n"+k.file, 1))
	add("dots", strings.Replace(whole, "\n--b\n"+k.file, "\n.--b\n"+k.file, 1))
	add("bare-cr", whole, swap("\r\n--b\r\nContent-Type: application", "\r--b\r\nContent-Type: application"))
	add("bare-cr-inside", whole, swap("--b\r\nContent-Type: application", "--b\r\r\nContent-Type: application"))
	add("bare-lf", whole, swap("\r\n--b\r\nContent-Type: application", "\n--b\nContent-Type: application"))
	add("lf-only", whole, func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") })
	add("cr-only", whole, func(s string) string { return strings.ReplaceAll(s, "\r\n", "\r") + "\r\n" })
	add("NUL", whole, swap("--b\r\nContent-Type: application", "--b\x00\r\nContent-Type: application"))
	add("NUL-in-text", mixed("Content-Type: text/plain\n\nBonjour\x00\n"+k.text))
	add("form-feed", whole, swap("--b\r\nContent-Type: application", "--b\f\r\nContent-Type: application"))
	add("no-parts", "Content-Type: multipart/mixed; boundary=b\n\n"+k.text+"--b--\n")
	add("nested-same", mixed(k.plain, parted("multipart/mixed; boundary=b", "b", k.plain), k.file))
	add("nested-prefix", mixed(k.plain, parted("multipart/mixed; boundary=bb", "bb", k.file)))
	add("nested-longer-outside", parted("multipart/mixed; boundary=bb", "bb", k.plain, parted("multipart/mixed; boundary=b", "b", k.file)))
	add("nested-not-closed", mixed(k.plain, strings.Replace(parted("multipart/mixed; boundary=in", "in", k.file), "--in--\n", "", 1)))
	add("nested-outer-inside", mixed(parted("multipart/mixed; boundary=in", "in", k.plain+"\n--b\n"+k.file)))
	add("nested-boundary-of-a-text", mixed("Content-Type: text/plain; boundary=in\n\n--in\n"+k.file+"\n--in--\n"))
	add("nested-boundary-unnamed", mixed("Content-Type: text/plain\n\n--in\n"+k.file+"\n--in--\n"))
	add("nested-epilogue", mixed(parted("multipart/alternative; boundary=in", "in", k.plain, k.html)+"--in\n"+k.file))
	add("nested-200", strings.Repeat("Content-Type: message/rfc822\n\n", 200)+k.file)
	add("parts-1200", mixed(strings.Split(strings.Repeat(k.plain+"|", 1200)+k.file, "|")...))
	add("long-line", mixed(k.plain, "Content-Type: text/plain\n\n"+strings.Repeat("x", 70_000)+"--b\n"+k.file))
	return out
}

// headers are tricks with the fields of the message and of its parts.
func (k *trickKit) headers() (out []trick) {
	const head = "From: Dr <dr@clinic.test>\nTo: <a@dest.test>\nSubject: essai\nDate: Mon, 23 Nov 2026 10:00:00 +0100\nMessage-ID: <1@clinic.test>\nMIME-Version: 1.0\n"
	p := strings.TrimSpace(k.text)
	top := func(name, from, to string) {
		out = append(out, trick{name: "head-" + name, head: strings.Replace(head, from, to, 1), entity: k.plain})
	}
	top("subject", "essai", p)
	top("subject-folded", "essai", "essai\n "+p)
	top("subject-twice", "Subject: essai\n", "Subject: essai\nSubject: "+p+"\n")
	top("from-comment", "dr@clinic.test>", "dr@clinic.test> ("+p+")")
	top("from-folded", "dr@clinic.test>", "dr@clinic.test>\n\t("+p+")")
	top("from-twice", "From: ", "From: ("+p+") x@clinic.test\nFrom: ")
	top("from-group", "Dr <dr@clinic.test>", p+": dr@clinic.test;")
	top("from-broken", "Dr <dr@clinic.test>", "<dr@clinic.test "+p)
	top("from-route", "<dr@clinic.test>", "<@"+p+".test:dr@clinic.test>")
	top("reply-to", "To: ", "Reply-To: dr@clinic.test ("+p+")\nTo: ")
	top("reply-to-broken", "To: ", "Reply-To: "+p+"\nTo: ")
	top("to-name", "To: <a@", "To: "+p+" <a@")
	top("cc", "Subject", "Cc: "+p+" <b@dest.test>\nSubject")
	top("date-comment", "+0100", "+0100 ("+p+")")
	top("date-broken", "Mon, 23", p+", 23")
	top("id-comment", "<1@clinic.test>", "("+p+") <1@clinic.test>")
	top("id-broken", "<1@clinic.test>", p)
	top("references", "Subject", "References: <0@dest.test>\n\t"+p+"\nSubject")
	top("in-reply-to", "Subject", "In-Reply-To: your message of "+p+" <0@dest.test>\nSubject")
	top("blank-colon", "Subject", "References : "+p+"\nSubject")
	top("no-colon", "Subject", p+"\nSubject")
	top("mbox", "From: ", "From "+p+" Mon Nov 23\nFrom: ")
	top("mime-version", "1.0", "1.0 ("+p+")")
	top("unknown", "Subject", "X-Payload: "+p+"\nSubject")
	top("thread-topic", "Subject", "Thread-Topic: "+p+"\nSubject")
	top("received", "From: ", "Received: from "+p+" by x; Mon, 23 Nov 2026 10:00:00 +0100\nFrom: ")
	top("dkim", "From: ", "DKIM-Signature: v=1; d=clinic.test; z="+p+"\nFrom: ")
	part := func(name, fields, body string) {
		out = append(out, trick{name: "field-" + name, entity: mixed(k.plain, fields+"\n\n"+body)})
	}
	part("name", "Content-Type: application/pdf; name=\""+p+".pdf\"", "x\n")
	part("name-pieces", "Content-Type: application/pdf;\n name*0=\""+p[:12]+"\";\n name*1=\""+p[12:]+".pdf\"", "x\n")
	part("name-both", "Content-Type: application/pdf; name=\"x.pdf\"; name*=utf-8''"+p+".exe", "x\n")
	part("description", "Content-Type: application/pdf\nContent-Description: "+p, "x\n")
	part("id", "Content-Type: application/pdf\nContent-ID: <"+p+"@x>", "x\n")
	part("location", "Content-Type: application/pdf\nContent-Location: https://x.test/"+p, "x\n")
	part("ends-in-boundary", "Content-Type: application/pdf\nX: "+p+"\n--b\nContent-Type: text/plain", k.text)
	return out
}
