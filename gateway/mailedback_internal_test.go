package gateway

import (
	"strings"
	"testing"
)

// A clinic without a telephone number promises none.
func TestMailedTextNamesATelephone(t *testing.T) {
	with, without := mailedText("Clinique des Lilas", "01 23 45 67 89", "fr", "en"), mailedText("Clinique des Lilas", "", "fr", "en")
	if !strings.Contains(with, "appelez le 15. Pour joindre Clinique des Lilas : 01 23 45 67 89\n") || !strings.Contains(with, "112. To reach Clinique des Lilas: 01 23 45 67 89\n") {
		t.Errorf("with: %s", with)
	}
	if strings.Contains(without, "joindre") || strings.Contains(without, "reach") {
		t.Errorf("without: %s", without)
	}
}
