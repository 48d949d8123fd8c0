package main

import (
	"fmt"
	"time"
)

// timeLeft says ", 12 s left" from how long the part that is done took; nothing in the first second, when it would be a guess, nor beyond a day.
func timeLeft(took time.Duration, done, total int64) string {
	if took < time.Second || done <= 0 || total <= done {
		return ""
	}
	seconds := took.Seconds() * float64(total-done) / float64(done)
	if seconds > 24*3600 {
		return ""
	}
	left := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	if left < time.Minute {
		return fmt.Sprintf(", %d s left", left/time.Second)
	}
	return fmt.Sprintf(", %d min left", (left+time.Minute-1)/time.Minute)
}
