package relay

import (
	"testing"

	"passerelle/gateway/message"
)

// While the house has no memory, letters go in small pieces; they do not fail, and all is given back.
func TestBuffersWithoutMemory(t *testing.T) {
	budget := message.NewBudget(0, "") // 1 MiB of buffers: two large ones
	l := buffers{budget: budget}
	var got []*buffer
	for range 4 {
		got = append(got, l.get(1<<20))
	}
	if got[1].chunk() != largeChunk || got[2].chunk() != smallChunk || got[3].chunk() != smallChunk {
		t.Errorf("got %d, %d, %d", got[1].chunk(), got[2].chunk(), got[3].chunk())
	}
	for _, b := range got {
		l.put(b)
	}
	if b := l.get(4000); b.chunk() != smallChunk {
		t.Error("a small letter took a large buffer")
	}
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes never came back", n)
	}
}
