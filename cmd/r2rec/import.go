package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/schollz/progressbar/v3"
)

type importCommand struct {
	Path       string `arg:"" help:"Folder or file of the data set; without it the bundled MovieLens latest-small." optional:"" type:"path"`
	JSON       bool   `help:"Print the counts as one JSON object; no progress bar."`
	Strict     bool   `help:"Stop at the first record that breaks the contract; otherwise it is told and left out."`
	kafkaFlags `embed:""`
}

// Help is shown by r2rec import --help.
func (importCommand) Help() string {
	return `Reads a data set and publishes its items and then, in time order, its interactions. Known forms:
  events.csv (user_id,item_id,rating,timestamp in Unix seconds) with items.csv (item_id,title,categories)
  MovieLens' own ratings.csv with movies.csv, or u.data with u.item and u.genre
Importing twice does no harm: the same interaction has the same event id and the same place in the graph. Stopped on the
way, it says how much Kafka has; run again, it begins anew.`
}

func (c importCommand) Run(p *process) error {
	d, err := openDataset(c.Path)
	if err != nil {
		return err
	}
	kc, err := connectKafka(p, c.kafkaFlags)
	if err != nil {
		return err
	}
	defer kc.Close()
	items, interactions := kc.NewWriter(broker.Items), kc.NewWriter(broker.Interactions)
	defer broker.CloseWriter(items)
	defer broker.CloseWriter(interactions)

	nItems, nInteractions := d.Len()
	opt := dataset.PublishOptions{}
	if !c.Strict {
		opt.Rejected = p.leftOut
	}
	if !c.JSON {
		bar := newBar(p, nItems+nInteractions, "importing "+d.Name())
		opt.Progress = func(done, _ int) { _ = bar.Set(done) } // a bar that cannot be drawn stops nothing
		defer bar.Close()
	}
	start := time.Now()
	sent, err := dataset.Publish(p.ctx, d, items, interactions, opt)
	if err != nil {
		return unfinished{fmt.Errorf("%w. Kafka has acknowledged %d items and %d interactions; the same command sends all of them again, which does no harm", err, sent.Items, sent.Interactions)}
	}
	seconds := time.Since(start).Seconds()
	rate := float64(sent.Items+sent.Interactions) / seconds
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(map[string]any{"command": "import", "items": sent.Items, "interactions": sent.Interactions,
			"rejected": sent.Rejected, "seconds": seconds, "records_per_second": rate})
	}
	_, err = fmt.Fprintf(p.stdout, "\n%d items and %d interactions published, %d left out, in %.1f s (%.0f records/s)\n",
		sent.Items, sent.Interactions, sent.Rejected, seconds, rate)
	return err
}

// leftOut tells of a record of a data set that breaks the contract.
func (p *process) leftOut(err error) { p.log.Warn("left out", "error", err) }

func openDataset(path string) (*dataset.Dataset, error) {
	if path == "" {
		return dataset.Bundled()
	}
	return dataset.Open(path)
}

// newBar draws on standard error, and only where that is a terminal.
func newBar(p *process, total int, what string) *progressbar.ProgressBar {
	f, ok := p.stderr.(*os.File)
	visible := false
	if ok {
		info, err := f.Stat()
		visible = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionSetVisibility(visible), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}
