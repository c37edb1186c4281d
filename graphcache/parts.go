package graphcache

import (
	"runtime"
	"sync"
)

// inParts calls f for stretches that together are 0 to n, side by side on as many processors as there are, each stretch at
// least so long, and returns when all calls have. One request alone would leave the other processors idle.
func inParts(n, least int, f func(from, to int)) {
	parts := max(1, min(runtime.GOMAXPROCS(0), n/least))
	var others sync.WaitGroup
	for p := 1; p < parts; p++ {
		others.Go(func() { f(n*p/parts, n*(p+1)/parts) })
	}
	f(0, n/parts)
	others.Wait()
}
