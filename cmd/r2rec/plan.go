package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/alecthomas/kong"
	"github.com/r2rec/r2rec/internal/sizing"
	"github.com/r2rec/r2rec/internal/synth"
)

type planCommand struct {
	Users int64 `help:"Users who will have done anything." required:"" group:"Graph"`
	Items int64 `help:"Items that anybody will have dealt with." required:"" group:"Graph"`
	Edges int64 `help:"Pairs of a user and an item that will have dealt with each other." required:"" group:"Graph"`

	UserID    idLength `name:"user-id-bytes" help:"Bytes of a user's id; number: ids count from 1; uuid: 36." default:"number" group:"Graph"`
	ItemID    idLength `name:"item-id-bytes" help:"Bytes of an item's id; number: ids count from 1; uuid: 36." default:"number" group:"Graph"`
	UserSkew  float64  `help:"How unevenly edges lie over users: exponent of Zipf's law, 0 to 2." default:"${user_skew}" group:"Graph"`
	ItemSkew  float64  `help:"How unevenly edges lie over items: exponent of Zipf's law, 0 to 2." default:"${item_skew}" group:"Graph"`
	Purchases float64  `help:"Share of the edges that are purchases or hides, which are remembered for longer." default:"0.02" group:"Graph"`
	Forgotten int64    `help:"Users who will have been forgotten." group:"Graph"`
	Factors   int      `help:"Numbers in an item's vector, as r2rec factors learns them; 0: nobody does." default:"16" group:"Graph"`

	TitleBytes    int `help:"Bytes of an item's title." default:"40" group:"Catalogue"`
	Categories    int `help:"Categories of an item." default:"2" group:"Catalogue"`
	CategoryBytes int `help:"Bytes of a category." default:"12" group:"Catalogue"`

	Recommended   float64 `help:"Share of the users who have a stored recommendation at a time: those who ask within its --ttl." default:"0.1" group:"Recommendations"`
	DocumentBytes int     `help:"Bytes of a stored recommendation." default:"3000" group:"Recommendations"`

	Bound      int64 `help:"Edges a node keeps." default:"128" group:"Redis"`
	Partitions int64 `help:"Partitions of interactions, items and users together." default:"24" group:"Redis"`
	Masters    int64 `help:"Masters of a Redis Cluster; 1: no Cluster." default:"1" group:"Redis"`
	Quantum    int   `help:"Step of jemalloc's small size classes: 8 in Redis' own builds and images, 16 in Debian's package." enum:"8,16" default:"16" group:"Redis"`

	JSON bool `help:"One JSON object, for machines."`
}

// Help is shown by r2rec plan --help.
func (planCommand) Help() string {
	return `Predicts how much memory the graph takes in Redis (used_memory), part by part, within a tenth, and says what to set. How
it is derived stands in docs/sizing.md.

  r2rec plan --users 1000000 --items 100000 --edges 20000000
  r2rec plan --users 1000000 --items 100000 --edges 20000000 --user-id-bytes uuid --item-id-bytes 12

Beyond its bound a list keeps only the newest edges: what matters is how many users have how many, hence the skews. A
graph that is there already shows its own by r2rec graph.`
}

// idLength is how long ids are; 0: they are numbers.
type idLength int

// UnmarshalText reads number, uuid or a number of bytes.
func (l *idLength) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "number":
		*l = 0
	case "uuid":
		*l = 36
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > sizing.MaxID {
			return fmt.Errorf("%q: want number, uuid or 1 to %d", s, sizing.MaxID)
		}
		*l = idLength(n)
	}
	return nil
}

func planVars() kong.Vars {
	return kong.Vars{"user_skew": fmt.Sprint(synth.UserLaw.Exponent), "item_skew": fmt.Sprint(synth.DrawnItems.Exponent)}
}

func (l idLength) id(most int64) sizing.ID { return sizing.ID{Bytes: int(l), Most: most} }

func (c planCommand) shape() sizing.Shape {
	byUser, byItem := synth.UserLaw, synth.DrawnItems
	byUser.Exponent, byItem.Exponent = c.UserSkew, c.ItemSkew
	return sizing.Shape{
		Users: c.Users, Items: c.Items, Edges: c.Edges, UserID: c.UserID.id(c.Users), ItemID: c.ItemID.id(c.Items), ByUser: byUser, ByItem: byItem,
		Bound: c.Bound, SettledBound: 1000, Settled: c.Purchases, Catalogue: c.Items, TitleBytes: c.TitleBytes, Categories: c.Categories, CategoryBytes: c.CategoryBytes,
		Recommended: int64(c.Recommended * float64(c.Users)), DocumentBytes: c.DocumentBytes, Ranked: 20, Forgotten: c.Forgotten, Factors: c.Factors, Partitions: c.Partitions, Prefix: "r2:",
	}
}

// planReport is what `r2rec plan --json` prints.
type planReport struct {
	sizing.Plan
	Masters   int64     `json:"masters"`
	MaxMemory int64     `json:"maxmemory"` // of each server
	Machine   int64     `json:"machine"`   // memory that each server's machine should have, with an append-only file
	Settings  []setting `json:"settings"`
}

type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Room over what is predicted: a tenth that the prediction may be off, a tenth for buffers of clients and a replica, and a
// twentieth to grow. While a child process saves, pages that change are copied; twice the data is the worst case.
const (
	headroom  = 1.25
	whileSave = 1.5
)

// Run predicts.
func (c planCommand) Run(p *process) error {
	if err := checkCounts(count{"--title-bytes", c.TitleBytes, 0}, count{"--categories", c.Categories, 0}, count{"--category-bytes", c.CategoryBytes, 1},
		count{"--document-bytes", c.DocumentBytes, 1}, count{"--factors", c.Factors, 0}, count{"--masters", int(c.Masters), 1}); err != nil {
		return wrong(err)
	}
	if !(c.Recommended >= 0 && c.Recommended <= 1) {
		return misuse("--recommended %v: want a share, 0 to 1", c.Recommended)
	}
	compact := max(256, 2*c.Bound) // a list grows to twice its bound before it is trimmed
	plan, err := c.shape().Size(sizing.Server{Quantum: c.Quantum, Cluster: c.Masters > 1, Compact: compact})
	if err != nil {
		return wrong(err)
	}
	r := planReport{Plan: plan, Masters: c.Masters, MaxMemory: int64(float64(plan.Bytes)/float64(c.Masters)*headroom) / 1e6 * 1e6}
	r.Machine = int64(float64(r.MaxMemory) * whileSave)
	r.Settings = []setting{
		{"maxmemory", strconv.FormatInt(r.MaxMemory/1e6, 10) + "mb", "a quarter over what is predicted for each server"},
		{"maxmemory-policy", "noeviction", "an evicted list would be a lost write: a full Redis has to say so"},
		{"zset-max-listpack-entries", strconv.FormatInt(compact, 10), "lists stay compact: else they take several times the memory"},
		{"zset-max-listpack-value", "64", "the same for long ids; it is Redis' default"},
		{"rdbcompression", "no", "lists are read by DUMP, several times faster without"},
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(r)
	}
	return r.print(p.stdout, c)
}

func (r planReport) print(w io.Writer, c planCommand) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tkeys\tentries\tmemory\tshare\t")
	for _, part := range r.Parts {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%.1f %%\t\n", part.Name, part.Keys, part.Of, size(part.Bytes), 100*float64(part.Bytes)/float64(r.Bytes))
	}
	fmt.Fprintf(t, "used_memory\t\t\t%s\t\t\n", size(r.Bytes))
	err := t.Flush()
	if lost := 2*c.Edges - r.UserEdges - r.ItemEdges; lost > 0 {
		fmt.Fprintf(w, "\n%.0f %% of the entries in lists are beyond the bound of %d and not kept.\n", 100*float64(lost)/float64(2*c.Edges), c.Bound)
	}
	each := "Redis"
	if r.Masters > 1 {
		each = fmt.Sprintf("each of the %d masters", r.Masters)
	}
	fmt.Fprintf(w, "\nSet for %s:\n\n", each)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.Settings {
		fmt.Fprintf(t, "  %s %s\t# %s\n", s.Name, s.Value, s.Why)
	}
	err = errors.Join(err, t.Flush())
	fmt.Fprintf(w, "\nIts machine should have %s: while Redis rewrites its append-only file, pages that change are copied.\n", size(r.Machine))
	return err
}
