package main

import (
	"errors"
	"strings"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/rltrainer"
)

// pastCases are questions about what happened before a time, and how the graph that answers them is kept.
type pastCases struct {
	Events    string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." required:"" type:"existingfile" placeholder:"FILE" group:"Data"`
	Items     string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." required:"" type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore string `help:"Ask about what happened before this time, Unix seconds or RFC 3339." required:"" placeholder:"TIME" group:"Data"`
	Cases     int    `help:"About how many cases to draw and ask." default:"1000" group:"Data"`
	evalGraph `embed:""`
}

// pastCasesIfWanted are pastCases of a command that may have other questions.
type pastCasesIfWanted struct {
	Events    string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	Items     string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore string `help:"Ask about what happened before this time, Unix seconds or RFC 3339." placeholder:"TIME" group:"Data"`
	Cases     int    `help:"About how many cases to draw and ask." default:"1000" group:"Data"`
	evalGraph `embed:""`
}

func (c pastCases) check() error {
	return wrong(errors.Join(c.evalGraph.check(), checkCounts(count{"--cases", c.Cases, 1})))
}

// wanted are the cases, all of whose flags have to be there now.
func (c pastCasesIfWanted) wanted() (pastCases, error) {
	var missing []string
	for _, f := range []struct{ flag, value string }{{"--events=FILE", c.Events}, {"--items=FILE", c.Items}, {"--fit-before=TIME", c.FitBefore}} {
		if f.value == "" {
			missing = append(missing, f.flag)
		}
	}
	if missing != nil {
		return pastCases{}, misuse("missing flags: %s", strings.Join(missing, ", "))
	}
	return pastCases(c), nil
}

// drawn opens the data and draws the cases.
func (c pastCases) drawn(seed uint64) (data *dataset.Dataset, before event.Time, cases []eval.Case, err error) {
	if before, err = parseMoment(c.FitBefore); err != nil {
		return nil, 0, nil, misuse("--fit-before: %w", err)
	}
	if data, err = dataset.OpenFiles(c.Events, c.Items); err != nil {
		return nil, 0, nil, err
	}
	cases, err = drawCases(data, c.FitBefore, before, c.Cases, seed)
	return data, before, cases, err
}

// examples asks the graph every case, for prompts that the model reads.
func (c pastCases) examples(p *process, shown *stages, data *dataset.Dataset, before event.Time, cases []eval.Case, who event.Model) ([]rltrainer.Example, error) {
	examples, err := c.evalGraph.ask(p, shown, data, cases, before, who)
	if err != nil {
		return nil, err
	}
	shown.close()
	p.log.Info("cases asked", "cases", len(examples), "before", before.String())
	return examples, nil
}
