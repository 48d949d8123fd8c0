package message

import "sort"

// chunks is a sequence of bytes in memory that grows without being copied: a large body in one slice would be moved again and again, and
// hold two slices while it is.
type chunks struct {
	pieces [][]byte // all full but the last
	ends   []int64  // offset behind each piece
}

const (
	firstChunk = 8 << 10
	maxChunk   = 256 << 10
)

// next is the capacity of the piece that n more bytes ask for: as much as is there already, within limits.
func (c *chunks) next(n int) int {
	have := 0
	if len(c.ends) > 0 {
		have = int(min(c.ends[len(c.ends)-1], maxChunk))
	}
	return min(max(n, have, firstChunk), maxChunk)
}

// add opens a new piece.
func (c *chunks) add(capacity int) {
	end := int64(0)
	if n := len(c.ends); n > 0 {
		end = c.ends[n-1]
	}
	c.pieces, c.ends = append(c.pieces, make([]byte, 0, capacity)), append(c.ends, end)
}

// fill puts what fits of p into the last piece, and tells how much.
func (c *chunks) fill(p []byte) int {
	n := len(c.pieces) - 1
	if n < 0 {
		return 0
	}
	k := min(len(p), cap(c.pieces[n])-len(c.pieces[n]))
	c.pieces[n] = append(c.pieces[n], p[:k]...)
	c.ends[n] += int64(k)
	return k
}

// from gives the rest of the piece that off lies in, nil behind the end.
func (c *chunks) from(off int64) []byte {
	if off < 0 {
		return nil
	}
	i := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > off })
	if i == len(c.ends) {
		return nil
	}
	return c.pieces[i][int64(len(c.pieces[i]))-(c.ends[i]-off):]
}

func (c *chunks) clear() {
	for _, p := range c.pieces {
		clear(p)
	}
}
