package relay

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: Close must leave no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
