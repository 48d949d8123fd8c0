package main

import (
	"context"
	"runtime"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

// What a burst of bodies left is given back within the quarter of a minute, and nobody is left behind.
func TestGiveBack(t *testing.T) {
	unused := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64() + s[1].Value.Uint64()
	}
	burst := func() {
		bodies := make([][]byte, 64)
		for i := range bodies {
			bodies[i] = make([]byte, 1<<20)
		}
		runtime.KeepAlive(bodies)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { giveBack(ctx); close(done) }()
		time.Sleep(time.Second)
		before := unused()
		burst()
		if grown := unused(); grown < before+48<<20 {
			t.Fatalf("the burst left %d octets, want most of 64 MiB", grown-before)
		}
		time.Sleep(giveBackEvery)
		synctest.Wait()
		if left := unused(); left > before+giveBackOver {
			t.Errorf("%d octets are held still", left-before)
		}
		cancel()
		<-done
	})
}
