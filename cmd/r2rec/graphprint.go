package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// print shows a graph's survey to people.
func (r graphReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tnodes\tedges\tat the bound\t")
	fmt.Fprintf(t, "users\t%d\t%d\t%d\t\n", r.Users, r.UserEdges, r.TrimmedUsers)
	fmt.Fprintf(t, "items\t%d\t%d\t%d\t\n", r.Items, r.ItemEdges, r.TrimmedItems)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d items in the catalogue, at most %d edges a node\n", r.Catalogue, r.EdgesPerNode)
	if r.Forgotten > 0 {
		fmt.Fprintf(w, "%d users remembered as forgotten\n", r.Forgotten)
	}
	printDegrees(w, "edges of a user", r.UserDegrees, r.EdgesPerNode)
	printDegrees(w, "edges of an item", r.ItemDegrees, r.EdgesPerNode)
	if err := r.printMemory(w); err != nil {
		return err
	}
	return r.printPartitions(w)
}

// printDegrees draws how many nodes have how many edges, in classes that double.
func printDegrees(w io.Writer, of string, d graphcache.Degrees, bound int) {
	most := slices.Max(append(d, 0))
	if most == 0 {
		return
	}
	ranges, counts := make([]string, len(d)), make([]string, len(d))
	wide, high := 0, 0
	for k, n := range d {
		from, to := 1<<k, 1<<(k+1)-1
		if from <= bound {
			to = min(to, bound)
		}
		ranges[k], counts[k] = strconv.Itoa(from), strconv.FormatInt(n, 10)
		if to > from {
			ranges[k] += " to " + strconv.Itoa(to)
		}
		wide, high = max(wide, len(ranges[k])), max(high, len(counts[k]))
	}
	fmt.Fprintf(w, "\n%s\n", of)
	for k, n := range d {
		const cells = 2 * barWidth
		bar := strings.Repeat("█", int((n*cells+most/2)/most))
		if n > 0 && bar == "" {
			bar = "▏"
		}
		fmt.Fprintf(w, "%*s  %*s  %s\n", wide, ranges[k], high, counts[k], bar)
	}
}

func (r graphReport) printMemory(w io.Writer) error {
	if r.UsedMemory > 0 {
		fmt.Fprintf(w, "\nredis has allocated %s, other data than the graph included\n", size(r.UsedMemory))
	}
	if len(r.Memory) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nmemory by a sample of the keys\tkeys\tsampled\tbytes\ta key\t")
	names := slices.SortedFunc(maps.Keys(r.Memory), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Memory[b].Bytes, r.Memory[a].Bytes), cmp.Compare(a, b))
	})
	var sum int64
	for _, name := range names {
		m := r.Memory[name]
		sum += m.Bytes
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t\n", name, m.Keys, m.Sampled, size(m.Bytes), size(m.Bytes/max(1, m.Keys)))
	}
	fmt.Fprintf(t, "together\t\t\t%s\t\t\n", size(sum))
	return t.Flush()
}

func (r graphReport) printPartitions(w io.Writer) error {
	if len(r.Partitions) == 0 {
		_, err := fmt.Fprintln(w, "\nno partition of Kafka is applied")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\npartition\tapplied below\thighest group\tgroups without\tend in Kafka\tlag\t")
	number := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, a := range r.Partitions {
		fmt.Fprintf(t, "%s/%d\t%d\t%d\t%d\t%s\t%s\t\n", iot.Clean(a.Topic), a.Partition, a.Lowest, a.Highest, a.Missing, number(a.End), number(a.Lag))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.KafkaError != "" {
		fmt.Fprintf(w, "lag is not known for all: %s\n", iot.Clean(r.KafkaError))
	}
	return nil
}

// size of memory, for people.
func size(n int64) string {
	const units = "kMGT"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v := float64(n)
	unit := -1
	for v >= 1000 && unit+1 < len(units) {
		v /= 1000
		unit++
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[unit:unit+1] + "B"
}

// Ids, titles and topics come from outside: Clean keeps them from moving the cursor.

func printAroundUser(w io.Writer, n graphcache.Neighbourhood) error {
	var b strings.Builder
	if n.Edges == 0 {
		fmt.Fprintf(&b, "user %s has no edges\n", iot.Clean(n.ID))
	} else {
		fmt.Fprintf(&b, "user %s, %s\n", iot.Clean(n.ID), edgesOf(n))
	}
	place := map[string]int{}
	for i, l := range n.LikeMinded {
		place[l.ID] = i + 1
	}
	for i, s := range n.Shown {
		branch, below := branches(i, len(n.Shown))
		fmt.Fprintf(&b, "%s%s  %-8s  %s, %d in its list\n", branch, when(s.At), s.Kind, named(s.ID, s.Title), s.Degree)
		for j, a := range s.Also {
			leaf, _ := branches(j, len(s.Also))
			who := "like-minded"
			if p := place[a.ID]; p > 0 {
				who += " no. " + strconv.Itoa(p)
			}
			fmt.Fprintf(&b, "%s%s%s  %-8s  user %s (%s)\n", below, leaf, when(a.At), a.Kind, iot.Clean(a.ID), who)
		}
	}
	if len(n.LikeMinded) > 0 {
		b.WriteString("\nlike-minded users, strongest first\n")
		for i, l := range n.LikeMinded {
			fmt.Fprintf(&b, "%3d. %s, %d items in common\n", i+1, iot.Clean(l.ID), l.Shared)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printAroundItem(w io.Writer, n graphcache.Neighbourhood) error {
	var b strings.Builder
	if n.Edges == 0 {
		fmt.Fprintf(&b, "item %s has no edges\n", named(n.ID, n.Title))
	} else {
		fmt.Fprintf(&b, "item %s, %s\n", named(n.ID, n.Title), edgesOf(n))
	}
	for i, s := range n.Shown {
		branch, below := branches(i, len(n.Shown))
		fmt.Fprintf(&b, "%s%s  %-8s  user %s, %d in their list\n", branch, when(s.At), s.Kind, iot.Clean(s.ID), s.Degree)
		for j, a := range s.Also {
			leaf, _ := branches(j, len(s.Also))
			fmt.Fprintf(&b, "%s%s%s  %-8s  %s\n", below, leaf, when(a.At), a.Kind, named(a.ID, a.Title))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func edgesOf(n graphcache.Neighbourhood) string {
	if int64(len(n.Shown)) == n.Edges {
		return fmt.Sprintf("%d edges, newest first", n.Edges)
	}
	return fmt.Sprintf("%d edges, the newest %d of them", n.Edges, len(n.Shown))
}

// branches are what stands before the i-th of n twigs, and before what hangs on it.
func branches(i, n int) (twig, below string) {
	if i == n-1 {
		return "└─ ", "   "
	}
	return "├─ ", "│  "
}

func when(t event.Time) string { return t.Std().Format("2006-01-02 15:04:05") }

func named(id, title string) string {
	if title == "" {
		return iot.Clean(id)
	}
	return iot.Clean(id) + " " + iot.Clean(title)
}
