package gatewaytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goTool finds a program that go install makes, in PATH or where Go puts it; the error says how it is installed.
func goTool(name, pkg string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	if out, err := exec.Command("go", "env", "GOPATH").Output(); err == nil {
		p := filepath.Join(strings.TrimSpace(string(out)), "bin", name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is missing: run deploy/test-deps.sh, or CGO_ENABLED=0 go install %s", name, pkg)
}
