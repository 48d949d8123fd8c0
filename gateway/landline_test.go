package gateway_test

import (
	"strings"
	"testing"
)

// A landline cannot take an SMS, wherever it is known from: the letter is not held, and who wrote it is given the code to tell.
func TestLandline(t *testing.T) {
	list := listFile(t, "adresse;phone\nlist@patient.test;01 23 45 67 89\n")
	l := newLife(t, "}\ndirectory: {list: \""+list+"\"")
	for to, tag := range map[string]string{"list@patient.test": "", "subject@patient.test": " [tel:01 23 45 67 89]"} {
		n := len(l.clinic.To("dr@clinic.test"))
		if got := l.send(l.lmtp, "dr@clinic.test", toPatient("x"+tag, to), to); codes(got) != "250" {
			t.Fatal(got)
		}
		told := plainText(t, arrived(t, l.clinic, "dr@clinic.test", n+1)[n])
		if len(l.sink.To(to)) != 1 || !strings.Contains(told, "Donnez-lui ce code par téléphone") || len(l.sms.Messages()) != 0 {
			t.Errorf("%s: %d notices, its sender reads: %s", to, len(l.sink.To(to)), told)
		}
	}
}
