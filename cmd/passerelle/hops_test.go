package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"passerelle/gateway/gatewaytest"
)

// world is what stands around the gateway of one script: the servers that it hands mail to.
type world struct {
	hops map[string]*gatewaytest.NextHop
}

func setUp(env *testscript.Env) error {
	env.Values["world"] = &world{hops: map[string]*gatewaytest.NextHop{}}
	return nil
}

// hops starts the clinic's server and the Internet's, and puts their addresses, and free ones for the gateway's doors, where the files say CLINIC,
// INTERNET, SMTP and PORTAL; the last two into the variables of that name too.
func hops(ts *testscript.TestScript, _ bool, files []string) {
	w := ts.Value("world").(*world)
	var words []string
	for _, name := range []string{"CLINIC", "INTERNET"} {
		h, err := gatewaytest.StartNextHop(gatewaytest.Options{})
		ts.Check(err)
		ts.Defer(func() { h.Close() })
		w.hops[name] = h
		words = append(words, name, h.Addr())
	}
	for _, name := range []string{"SMTP", "PORTAL"} {
		port, err := gatewaytest.FreePort()
		ts.Check(err)
		addr := "127.0.0.1:" + strconv.Itoa(port)
		ts.Setenv(name, addr)
		words = append(words, name, addr)
	}
	for _, f := range files {
		text := strings.NewReplacer(words...).Replace(ts.ReadFile(f))
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o600))
	}
}

// letter hands a file in at an SMTP door: letter ADDRESS FROM TO FILE.
func letter(ts *testscript.TestScript, refused bool, args []string) {
	err := smtp.SendMail(args[0], nil, args[1], []string{args[2]}, []byte(strings.ReplaceAll(ts.ReadFile(args[3]), "\n", "\r\n")))
	if refused == (err == nil) {
		ts.Fatalf("the letter: %v", err)
	}
}

// mailed waits for the nth mail to a recipient at one of the hops, and writes it to a file as its reader sees it: mailed HOP TO N FILE.
func mailed(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	h := ts.Value("world").(*world).hops[args[0]]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = h.WaitFor(ctx, func([]gatewaytest.Message) bool { return len(h.To(args[1])) >= n })
	ts.Check(err)
	text, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(h.To(args[1])[n-1].Data)))
	if len(text) == 0 {
		ts.Check(err) // parts of other encodings end the reading
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), text, 0o600))
}

// found puts what a pattern finds in a file into a variable: found VARIABLE PATTERN FILE.
func found(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindString(ts.ReadFile(args[2]))
	if m == "" {
		ts.Fatalf("%s is not in %s", args[1], args[2])
	}
	ts.Setenv(args[0], m)
}

// form posts a form as a browser does: form URL NAME VALUE.
func form(ts *testscript.TestScript, refused bool, args []string) {
	resp, err := http.PostForm(args[0], url.Values{args[1]: {args[2]}})
	ts.Check(err)
	resp.Body.Close()
	if refused == (resp.StatusCode == http.StatusOK) {
		ts.Fatalf("%s answered %s", args[0], resp.Status)
	}
}

// days checks that a time in the JSON of the last command lies so many days from now: days FIELD N.
func days(ts *testscript.TestScript, _ bool, args []string) {
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &fields))
	s, _ := fields[args[0]].(string)
	at, err := time.Parse(time.RFC3339, s)
	ts.Check(err)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if off := time.Until(at) - time.Duration(n)*24*time.Hour; off.Abs() > time.Minute {
		ts.Fatalf("%s is %s, which is %s off", args[0], at, off)
	}
}
