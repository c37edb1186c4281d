// Package parallel cuts work on independent elements into stretches, so that one request alone does not leave all processors
// but one idle. What is computed must not depend on where the cuts are: then the result is the same on any number of
// processors.
package parallel

import (
	"runtime"
	"sync"
)

// Parts calls f for stretches that together are 0 to n, side by side on as many processors as there are, each stretch at
// least so long (all of n where that is shorter), and returns when all calls have.
func Parts(n, least int, f func(from, to int)) {
	parts := max(1, min(runtime.GOMAXPROCS(0), n/least))
	var others sync.WaitGroup
	for p := 1; p < parts; p++ {
		others.Go(func() { f(n*p/parts, n*(p+1)/parts) })
	}
	f(0, n/parts)
	others.Wait()
}
