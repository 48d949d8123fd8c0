package pdf

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// bomb is a file of n object streams of which each unpacks to size bytes.
func bomb(n, size int) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.5\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n")
	at := []int{9, 0}
	at[1] = bytes.Index(b.Bytes(), []byte("2 0 obj"))
	var x bytes.Buffer
	x.Write([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, byte(at[0]), 1, 0, 0, 0, byte(at[1])})
	for i := range n {
		head := fmt.Sprintf("%d 0 ", 3+n+i)
		z := deflate([]byte(head), []byte("["+strings.Repeat("0 ", size/2)+"]"))
		x.Write([]byte{1, byte(b.Len() >> 24), byte(b.Len() >> 16), byte(b.Len() >> 8), byte(b.Len())})
		fmt.Fprintf(&b, "%d 0 obj\n<</Type/ObjStm/N 1/First %d/Filter/FlateDecode/Length %d>>\nstream\n", 3+i, len(head), len(z))
		b.Write(z)
		b.WriteString("\nendstream\nendobj\n")
	}
	for i := range n {
		o := 3 + i
		x.Write([]byte{2, 0, 0, byte(o >> 8), byte(o)})
	}
	start := b.Len()
	x.Write([]byte{1, byte(start >> 24), byte(start >> 16), byte(start >> 8), byte(start)})
	z := deflate(x.Bytes())
	fmt.Fprintf(&b, "%d 0 obj\n<</Type/XRef/W[1 4 0]/Size %d/Root 1 0 R/Filter/FlateDecode/Length %d>>\nstream\n", 3+2*n, 4+2*n, len(z))
	b.Write(z)
	fmt.Fprintf(&b, "\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n", start)
	return b.Bytes()
}

// heap gives the most memory that was in use while do ran, in bytes.
func heap(do func()) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base, most := m.HeapInuse, uint64(0)
	done, watched := make(chan bool), make(chan bool)
	go func() {
		defer close(watched)
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	do()
	close(done)
	<-watched
	return most - min(most, base)
}

// TestEncryptMemory: what a file unpacks to is bounded, and so is what rewriting takes of memory.
func TestEncryptMemory(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		most uint64
		want bool
	}{
		"a fair file":    {bomb(2, 256<<10), 150 << 20, true},
		"a large stream": {bomb(1, 64<<20), 150 << 20, false},
		"many streams":   {bomb(200, 8<<20), 150 << 20, false},
		"10 MB":          {sample(stream("", strings.Repeat("x", 10<<20))), 80 << 20, true},
		"numbers":        {sample("<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/X[" + strings.Repeat("0 ", 7<<20) + "]>>"), 100 << 20, false},
	} {
		var err error
		var took time.Duration
		most := heap(func() {
			from := time.Now()
			_, err = Encrypt(context.Background(), bytes.NewReader(c.in), passphrase)
			took = time.Since(from)
		})
		t.Logf("%s: %d bytes in, %d MB of memory, %s, %v", name, len(c.in), most>>20, took.Round(time.Millisecond), err)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if most > c.most {
			t.Errorf("%s: %d MB of memory", name, most>>20)
		}
	}
}
