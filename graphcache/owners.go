package graphcache

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// clusterSlots are all slots of a Cluster.
const clusterSlots = 16384

// owners tells, as text to compare, which of a Cluster's masters has which slots, by the word of each; empty: it is no Cluster,
// or one that does not tell. While a slot is on its way from one to another, or one of them has slots that the client does not
// know, it is errMoved: keys of such slots can be missed.
func owners(ctx context.Context, rdb redis.UniversalClient) (string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return "", nil
	}
	var mu sync.Mutex
	var all []string
	served, silent := 0, false
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		nodes, err := master.ClusterNodes(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		if refused(err) {
			silent = true
			return nil
		}
		if err != nil {
			return err
		}
		own, slots, still := ownSlots(nodes)
		if !still {
			return errMoved
		}
		all, served = append(all, own), served+slots
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case silent:
		return "", nil
	case served != clusterSlots:
		return "", errMoved
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), nil
}

// ownSlots finds in an answer of CLUSTER NODES the line of the node that gave it: its id and slots as text, and how many they are.
// still is false where one of them is on its way.
func ownSlots(nodes string) (own string, slots int, still bool) {
	const flags, ranges = 2, 8
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) < ranges || !slices.Contains(strings.Split(f[flags], ","), "myself") {
			continue
		}
		for _, r := range f[ranges:] {
			first, last, ok := strings.Cut(r, "-")
			if !ok {
				last = first
			}
			a, err := strconv.Atoi(first)
			b, err2 := strconv.Atoi(last)
			if err != nil || err2 != nil { // [93->-NODE], [77-<-NODE]
				return "", 0, false
			}
			slots += b - a + 1
		}
		return f[0] + " " + strings.Join(f[ranges:], " "), slots, true
	}
	return "", 0, false
}
