package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
)

type graphCommand struct {
	JSON       bool `help:"One JSON object, for machines."`
	redisFlags `embed:""`
}

// Help is shown by `r2rec graph --help`.
func (graphCommand) Help() string {
	return `Counts nodes and edges by reading every list's length; about a second for a million nodes. A list keeps the
newest edges up to its bound, so that an item's list can hold fewer edges than users chose it.`
}

func (c graphCommand) Run(p *process) error {
	rdb, graph, err := connectGraph(p, c.redisFlags)
	if err != nil {
		return err
	}
	defer rdb.Close()
	s, err := graph.Stats(p.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tnodes\tedges\tat the bound\t")
	fmt.Fprintf(w, "users\t%d\t%d\t%d\t\n", s.Users, s.UserEdges, s.TrimmedUsers)
	fmt.Fprintf(w, "items\t%d\t%d\t%d\t\n", s.Items, s.ItemEdges, s.TrimmedItems)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%d items in the catalogue, at most %d edges a node\n", s.Catalogue, s.EdgesPerNode)
	return err
}
