package smime

import (
	"bytes"
	"testing"
)

func TestProbe(t *testing.T) {
	for _, algo := range []string{"rsa", "p256", "p384", "p521"} {
		for _, oaep := range []bool{false, true} {
			var p person
			if oaep {
				p = newPerson(t, algo, capable(oidOAEP))
			} else {
				p = newPerson(t, algo, nil)
			}
			nss := p.nss(t)
			for _, suite := range []Suite{Compatible, Modern} {
				content := bytes.Repeat([]byte("hello\r\n"), 30)
				der := seal(t, content, suite, p.cert)
				got, err := p.opened(t, der)
				t.Log(algo, oaep, suite.Type(), "openssl", err, bytes.Equal(got, content))
				got, err = nss(der)
				t.Log(algo, oaep, suite.Type(), "nss", err, bytes.Equal(got, content))
			}
		}
	}
}
