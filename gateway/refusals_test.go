package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Who blocks a sender on the page gets nothing more from him: the sender hears it at once by mail and at his next message by a refusal, until it
// is taken back.
func TestRefusals(t *testing.T) {
	l := newLife(t, ", tell: [name]")
	send := func(want string) {
		t.Helper()
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient("Vos résultats [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); !strings.HasPrefix(codes(got), want) {
			t.Fatalf("got %v, want %s", got, want)
		}
	}
	send("250")
	notice := plainText(t, arrived(t, l.sink, "a@patient.test", 1)[0])
	link := regexp.MustCompile(`http://\S+/r/[0-9a-z]+`).FindString(strings.ReplaceAll(notice, "=\n", ""))
	if link == "" || !strings.Contains(notice, "Il vient de : Dr") {
		t.Fatalf("notice: %s", notice)
	}
	post := func(to, word string, want int) {
		t.Helper()
		resp, err := http.PostForm(link+to, url.Values{"mot": {word}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s: %d, want %d", to, resp.StatusCode, want)
		}
	}
	post("/bloquer", "", http.StatusBadRequest)
	send("250")
	post("/bloquer", "bloquer", http.StatusOK)
	told := ""
	for _, m := range arrived(t, l.clinic, "dr@clinic.test", 1) {
		if text := plainText(t, m); strings.Contains(text, "ne plus recevoir de messages de votre part") {
			told = text
		}
	}
	if told == "" {
		t.Error("the sender was not told of the block")
	}
	send("550")
	if got := l.send(l.lmtp, "other@clinic.test", toPatient("Bonjour [tel:06 12 34 56 78]", "a@patient.test"), "a@patient.test"); codes(got) != "250" {
		t.Errorf("another sender: %v", got)
	}
	arrived(t, l.sink, "a@patient.test", 3)
	first := regexp.MustCompile(`http://\S+/s/[0-9a-f]+`).FindString(told)
	page, err := http.Get(first)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(page.Body)
	page.Body.Close()
	id := regexp.MustCompile(`name="depot" value="([^"]+)"`).FindSubmatch(body)
	if err != nil || id == nil {
		t.Fatalf("the sender's page %q: %v %s", first, err, body)
	}
	again, err := http.PostForm(first+"/renvoyer", url.Values{"depot": {string(id[1])}, "mot": {"renvoyer"}})
	if err != nil {
		t.Fatal(err)
	}
	body, err = io.ReadAll(again.Body)
	again.Body.Close()
	if again.StatusCode != http.StatusConflict || !strings.Contains(string(body), "ce destinataire a demandé") {
		t.Errorf("the notice sent again to who blocked its sender: %s %v %s", again.Status, err, body)
	}
	l.later(49 * time.Hour)
	arrived(t, l.sink, "a@patient.test", 4) // the other's reminder, none of who is blocked
	time.Sleep(300 * time.Millisecond)
	if n := len(l.sink.To("a@patient.test")); n != 4 {
		t.Errorf("%d mails to the patient, want 4", n)
	}
	post("/debloquer", "débloquer", http.StatusOK)
	send("250")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	l.sms.Wait(ctx, 1)
}

// The word agreed at the desk stands in the clinic's list; notice and page show it, to him alone, where pickup.tell says so, and nowhere else.
func TestWordOfTheDesk(t *testing.T) {
	list := listFile(t, "adresse;phone;word\na@patient.test;06 12 34 56 78;Mimosa\nb@patient.test;07 11 22 33 44;\n")
	for tell, want := range map[string]bool{", tell: [word]": true, "": false} {
		l := newLife(t, tell+"}\ndirectory: {list: \""+list+"\"")
		for _, to := range []string{"a@patient.test", "b@patient.test"} {
			if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x", to), to); codes(got) != "250" {
				t.Fatal(got)
			}
			data := arrived(t, l.sink, to, 1)[0].Data
			_, page := newBrowser(t).get(linkIn(t, data))
			in := strings.Contains(string(data), "Mimosa")
			if on := strings.Contains(page, "Mimosa"); in != on || in != (want && to == "a@patient.test") {
				t.Errorf("%q, %s: in the notice %v, on the page %v", tell, to, in, on)
			}
		}
	}
}
