package graphcache

import (
	"fmt"
	"time"
)

// Read bounds what one Snapshot reads, and so what it costs.
type Read struct {
	History       int           // newest positive edges of the user, from which chains start, and as many others, whose items' lists are read
	ItemList      int           // newest edges read of each of their lists
	Neighbours    int           // like-minded users kept, the strongest
	Met           int           // users in the history's lists who are compared with the user, those in most lists first
	NeighbourList int           // newest edges read of each of theirs
	Pool          int           // candidates looked at more closely before the best are kept
	HalfLife      time.Duration // in which a choice loses half its weight, in event time
}

// DefaultRead reads lists as long as the default bound keeps them, about 300 of them a snapshot that finds candidates. A
// pool of 60 instead of 200 would save 2 ms (docs/benchmarks.md) and miss more of the good ones; reading the newest 32 of
// each list only costs .02 to .04 of HR@1 on a dense catalogue (docs/accuracy.md).
var DefaultRead = Read{History: 32, ItemList: 128, Neighbours: 48, Met: 512, NeighbourList: 128, Pool: 200, HalfLife: 2 * 365 * 24 * time.Hour}

func (r Read) validate() error {
	for name, v := range map[string]int{"History": r.History, "ItemList": r.ItemList, "Neighbours": r.Neighbours, "Met": r.Met,
		"NeighbourList": r.NeighbourList, "Pool": r.Pool} {
		if v < 1 {
			return fmt.Errorf("graphcache: Read.%s is %d, must be at least 1", name, v)
		}
	}
	if r.HalfLife <= 0 {
		return fmt.Errorf("graphcache: Read.HalfLife is %v, must be positive", r.HalfLife)
	}
	return nil
}
