package main

import (
	"os"
	"runtime/debug"
)

// collectSeldom lets the heap grow to five times what lives before garbage is collected, where GOGC says nothing else. A
// recommendation leaves some 3 MB of garbage and little lives: at Go's default, which is twice, collecting took a fifth of
// the processor time and most of the slowest percent of requests. Some 100 MB are the price.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
