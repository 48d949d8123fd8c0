package chromium

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axeFile is where deploy/test-deps.sh puts it.
const axeFile = "/usr/local/share/axe-core/axe.min.js"

// Scripts lets the pages' scripts run, or not.
func Scripts(t testing.TB, ctx context.Context, run bool) {
	t.Helper()
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run}); err != nil {
		t.Fatal(err)
	}
}

// AxeSource gives axe-core 4.
func AxeSource(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(axeFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("this test needs axe-core 4 in %s: make deps gets it (npm pack axe-core)", axeFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Axe gives what axe-core finds on the page against WCAG 2.2 A and AA and its own best practices, a line for each, "" where nothing. Scripts must run.
func Axe(t testing.TB, ctx context.Context, source string) string {
	t.Helper()
	there, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("typeof axe === 'object'"))
	if err != nil {
		t.Fatalf("axe-core: %v", err)
	}
	if !there {
		Do(t, ctx, "axe-core", chromedp.Evaluate[chromedp.Void](source+"\n;undefined"))
	}
	found, err := chromedp.Run(ctx, chromedp.Evaluate[string](`axe.run(document, {iframes: false, resultTypes: ["violations"],
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => r.violations.map(v =>
		v.id + ": " + v.help + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join(" | ")).join("\n"))`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("axe-core: %v", err)
	}
	return found
}
