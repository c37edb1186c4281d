package synth

import "testing"

func TestSpreadGivesOutAllEdges(t *testing.T) {
	for _, c := range []struct {
		law            Law
		n, total, most int64
	}{
		{UserLaw, 1_000_000, 20_000_000, 50_000},
		{UserLaw, 10, 10, 5},
		{UserLaw, 10, 50, 5},
		{ItemLaw, 1000, 300, 7}, // fewer edges than nodes
		{Law{0, 1}, 100, 1000, 1000},
		{Law{2, .0001}, 3_000_000_000, 40_000_000_000, 1_000_000},
	} {
		classes, err := c.law.Spread(c.n, c.total, c.most)
		if err != nil {
			t.Fatal(err)
		}
		var nodes, edges int64
		last := c.most + 1
		for _, k := range classes {
			if k.Degree >= last || k.Degree < 1 || k.Nodes < 1 {
				t.Errorf("%+v: class %+v after degree %d", c, k, last)
			}
			last = k.Degree
			nodes += k.Nodes
			edges += k.Degree * k.Nodes
		}
		if edges != c.total || nodes > c.n || c.total >= c.n && nodes != c.n {
			t.Errorf("%+v: %d nodes with %d edges", c, nodes, edges)
		}
	}
	if _, err := UserLaw.Spread(10, 51, 5); err == nil {
		t.Error("51 edges fit 10 nodes of at most 5")
	}
}
