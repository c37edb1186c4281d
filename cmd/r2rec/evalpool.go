package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/gguf"
)

// evalPool says how the fusion and the language model are joined, as a server joins them.
type evalPool struct {
	PoolFrom   string   `help:"For the ranker pool: learn the model's weight from the scores of this file, which --scores wrote of other cases, such as validation cases: the weight that makes what was chosen likeliest." type:"existingfile" xor:"pool" placeholder:"FILE" group:"Pool"`
	PoolWeight *float64 `help:"For the ranker pool: the model's weight, 0 to 1." xor:"pool" placeholder:"PART" group:"Pool"`
	Scores     string   `help:"Write the scores of every case to this file, one JSON object a line." type:"path" placeholder:"FILE" group:"Results"`
	Sample     int      `help:"Ask only so many of the cases, drawn by the seed; 0: all. The language model may take a second for each." default:"0" placeholder:"N" group:"Data"`
}

// check finds what is wrong with the flags; rankers are those of --ranker.
func (f evalPool) check(rankers []string) error {
	wanted := slices.Contains(rankers, eval.PoolName)
	given := f.PoolFrom != "" || f.PoolWeight != nil
	switch {
	case wanted && !(slices.Contains(rankers, "fusion") && slices.Contains(rankers, "lm")):
		return misuse("--ranker pool: it joins fusion and lm, so both have to rank; name them too")
	case wanted && !given:
		return misuse("--ranker pool: say the model's weight by --pool-weight, or what to learn it from by --pool-from")
	case given && !wanted:
		return misuse("--pool-from, --pool-weight: they are about the ranker pool; add fusion,lm,pool to --ranker")
	case f.PoolWeight != nil && !(*f.PoolWeight >= 0 && *f.PoolWeight <= 1):
		return misuse("--pool-weight %v: want 0 to 1", *f.PoolWeight)
	case f.Sample < 0:
		return misuse("--sample %d: want a number of cases, or 0 for all", f.Sample)
	case f.Scores != "" && f.Scores == f.PoolFrom:
		return misuse("--scores %s: --pool-from is read from there; the weight is learned from other cases than it is measured on", f.Scores)
	case f.Scores != "":
		return checkFolder("--scores", f.Scores)
	}
	return nil
}

// poolWeight is that of the model, fixed or learned; 0 where there is no pool.
func (f evalPool) poolWeight(p *process, cases []eval.Case) (float64, error) {
	if f.PoolWeight != nil {
		return *f.PoolWeight, nil
	}
	if f.PoolFrom == "" {
		return 0, nil
	}
	scored, err := eval.ReadScores(f.PoolFrom)
	if err != nil {
		return 0, fmt.Errorf("--pool-from: %w", err)
	}
	first := slices.MinFunc(cases, func(a, b eval.Case) int { return cmp.Compare(a.At, b.At) })
	for _, s := range scored {
		if s.At >= first.At {
			return 0, fmt.Errorf("--pool-from %s: case %q is of %s, and the first that is measured of %s: the weight is to be learned from earlier ones", f.PoolFrom, s.Case, s.At, first.At)
		}
		if len(s.Taught) > 0 {
			return 0, misuse("--pool-from %s: of case %q the answer was taught to %s, which says too much for it; write the scores without --leaky",
				f.PoolFrom, s.Case, strings.Join(s.Taught, " and "))
		}
	}
	curve, best, err := eval.PoolCurve(scored, "fusion", "lm")
	if err != nil {
		return 0, fmt.Errorf("--pool-from %s: %w", f.PoolFrom, err)
	}
	at := func(i int) string {
		return fmt.Sprintf("cross-entropy %.3f, HR@1 %.3f", curve[i].CrossEntropy, curve[i].HR1)
	}
	p.log.Info("weight of the pool learned", "cases", len(scored), "weight", curve[best].Weight, "pool", at(best), "fusion", at(0), "lm", at(len(curve)-1))
	return curve[best].Weight, nil
}

// pooled puts the pool where --ranker has it among the results.
func (c evalCommand) pooled(cases []eval.Case, results []eval.Result, weight float64) ([]eval.Result, error) {
	place := slices.Index(c.Ranker, eval.PoolName)
	if place < 0 {
		return results, nil
	}
	r, err := eval.PoolResult(cases, results, "fusion", "lm", weight)
	if err != nil {
		return nil, err
	}
	return slices.Insert(slices.Clone(results), place, r), nil
}

// writeScores writes --scores.
func (f evalPool) writeScores(cases []eval.Case, results []eval.Result) error {
	if f.Scores == "" {
		return nil
	}
	if err := gguf.WriteFile(f.Scores, func(w io.Writer) error { return eval.WriteScores(w, eval.ScoredCases(cases, results)) }); err != nil {
		return fmt.Errorf("--scores: %w", err)
	}
	return nil
}

// sampled draws the cases that are asked, and keeps their order.
func (f evalPool) sampled(cases []eval.Case, seed uint64) []eval.Case {
	if f.Sample == 0 || f.Sample >= len(cases) {
		return cases
	}
	places := rand.New(rand.NewPCG(seed, uint64(len(cases)))).Perm(len(cases))[:f.Sample]
	slices.Sort(places)
	out := make([]eval.Case, len(places))
	for i, place := range places {
		out[i] = cases[place]
	}
	return out
}
