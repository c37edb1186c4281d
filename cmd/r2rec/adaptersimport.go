package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

type adaptersImportCommand struct {
	Folder  string  `arg:"" help:"PEFT's folder: adapter_model.safetensors, adapter_config.json, and r2rec.json of the export it was learned from." type:"existingdir" placeholder:"DIR"`
	Since   string  `help:"Judge by decisions from then on, RFC 3339; for an adapter that does not say from when on nothing taught it." placeholder:"TIME" group:"Gate"`
	Margin  float64 `help:"Reward a decision by which it has to be better." default:"0" group:"Gate"`
	Detect  float64 `help:"Difference in reward that is worth detecting: with too few decisions to see it the gate gives no answer." default:"0.02" group:"Gate"`
	Share   float64 `help:"Share of the users who get it first; 1: all at once." default:"0.1" group:"Promotion"`
	Seed    uint64  `help:"Seed of the gate's resampling." default:"1" group:"Gate"`
	Work    string  `help:"Where the round stands, so that a killed one goes on. Default: r2rec/import in $XDG_STATE_HOME, or in ~/.local/state." type:"path" placeholder:"DIR" group:"Gate"`
	Threads int     `help:"Decisions worked on at once." default:"2" group:"Gate"`

	engineFlags   `embed:""`
	adapterPlaces `embed:""`
	redisFlags    `embed:""`
}

// Help is shown by `r2rec adapters import --help`.
func (adaptersImportCommand) Help() string {
	return `Takes a LoRA adapter that another trainer made (deploy/trainer, or anything that saves as PEFT does), turns it into GGUF, and
treats it as one that was learned here: the gate judges it by decisions that it was not learned from, what changes most is
measured so that servers can prove that they serve it, and what passes goes to the store and to the log of adapters.

  r2rec adapters import adapter --model SmolLM2-135M-Instruct.gguf

Exit codes are those of r2rec train --once: 0 promoted, 10 refused by the gate, 11 too few decisions to tell, 12 none at
all, 13 waiting for a roll-out or for another trainer. Without a gate, on your own word: r2rec adapters promote FILE.`
}

func (c adaptersImportCommand) Run(p *process) (err error) {
	if err := checkCounts(count{"--threads", c.Threads, 1}); err != nil {
		return err
	}
	var since event.Time
	if c.Since != "" {
		at, err := time.Parse(time.RFC3339, c.Since)
		if err != nil {
			return fmt.Errorf("--since %q: want an instant as RFC 3339, such as 2026-11-23T10:15:30Z", c.Since)
		}
		since = event.At(at)
	}
	dir := c.Work
	if dir == "" {
		if dir, err = stateFolder("import" + c.TopicPrefix); err != nil {
			return fmt.Errorf("--work is not given, and %w", err)
		}
	}
	files, err := os.MkdirTemp("", "r2rec-import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)
	path, says, err := c.convert(p, files)
	if err != nil {
		return err
	}
	if since == 0 {
		since = event.Time(says.LearnedBefore)
	}
	if since == 0 {
		return errors.New("the adapter does not say from when on no decision taught it: r2rec.json has no learned_before (r2rec train export writes it); give --since")
	}
	t, err := newTeacher(p.ctx, engine.Options{Path: c.Model, Readout: engine.Readout(says.Readout), PromptVersion: says.PromptVersion}, engine.AdapterOptions{}, c.Threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	d, err := c.connect(p)
	if err != nil {
		return err
	}
	defer d.close()
	rdb, err := c.redisFlags.client(p.ctx)
	if err != nil {
		return err
	}
	defer rdb.Close()
	shown := &stages{p: p}
	shown.held = c.JSON
	defer shown.close()
	report, err := leasedRound(p.ctx, adapters.LeaseOptions{Client: rdb, Key: c.Prefix + "train", TTL: leaseTime, Logger: p.log}, rltrainer.RoundOptions{
		Dir: dir, History: history{d.kafka}, Log: d.log, Store: d.store, Teacher: t, Import: rltrainer.Import{Path: path, Before: since},
		Gate: rltrainer.GateOptions{Margin: c.Margin, Detect: c.Detect}, Share: c.Share, Seed: c.Seed, Now: time.Now, Logger: p.log, Told: shown.set,
	})
	shown.close()
	if err != nil {
		return err
	}
	if err := (trainRoundCommand{JSON: c.JSON}).print(p, dir, report); err != nil {
		return err
	}
	return exitWith(exitCodes[report.Verdict])
}

// convert writes the adapter as GGUF, and returns what it says of itself. It has to be for the model, and to answer as it
// did where it was trained.
func (c adaptersImportCommand) convert(p *process, dir string) (path string, says lora.Manifest, err error) {
	if c.Model == "" {
		return "", says, errors.New("--model: name the GGUF file that the adapter was learned for; the model that travels with the program is taught by r2rec train alone")
	}
	base, err := gguf.Open(c.Model)
	if err != nil {
		return "", says, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	heads, err := lora.HeadsOf(base)
	if err != nil {
		return "", says, err
	}
	a, err := lora.ReadPEFT(c.Folder, heads)
	if err != nil {
		return "", says, err
	}
	says = a.Manifest
	if says == (lora.Manifest{}) {
		return "", says, fmt.Errorf("%s has no %s: nothing says which model, readout, prompt and tokenizer it is for; r2rec train export writes one", c.Folder, manifestFile)
	}
	if err := a.Fits(base); err != nil {
		return "", says, err
	}
	path = filepath.Join(dir, "adapter.gguf")
	if err := lora.Write(path, a); err != nil {
		return "", says, err
	}
	// Opened once, to hold it against the model: a mismatch is told here, before anything is read from Kafka.
	m, err := c.engineFlags.open(engine.Options{Adapter: path, Concurrency: 1})
	if err != nil {
		return "", says, err
	}
	return path, says, errors.Join(c.answersAlike(p, m), m.Close())
}

const (
	answersFile  = "answers.jsonl"
	answersApart = .05 // nats of log-share, root mean square: a GPU that computes in bfloat16 has some .02
)

// trainerAnswer is what the trainer computed for one prompt with the adapter it wrote.
type trainerAnswer struct {
	Prompt      string    `json:"prompt"`
	Completions []string  `json:"completions"`
	LogShares   []float64 `json:"log_shares"`
}

// answersAlike compares what the adapter answers here with what it did where it was trained: rows in another order, a scale
// left out or a base that was loaded otherwise would show.
func (c adaptersImportCommand) answersAlike(p *process, m *engine.Model) error {
	f, err := os.Open(filepath.Join(c.Folder, answersFile))
	if errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("the trainer did not say what the adapter answers, so nothing tells whether it was converted right", "wanted", answersFile)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in, square, n := json.NewDecoder(f), 0., 0
	for {
		var a trainerAnswer
		switch err := in.Decode(&a); {
		case errors.Is(err, io.EOF) && n > 0:
			if apart := math.Sqrt(square / float64(n)); !(apart <= answersApart) {
				return fmt.Errorf("%s: the adapter's log-shares differ from what the trainer computed by %.3g nats (root mean square of %d), want at most %v: it was converted, or the model loaded there, otherwise than here", answersFile, apart, n, answersApart)
			}
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", answersFile, err)
		}
		content, err := iot.Parse(a.Prompt)
		if err != nil {
			return fmt.Errorf("%s: %w", answersFile, err)
		}
		prompt := iot.Prompt{Version: content.Version, Text: a.Prompt, Content: content}
		for i, answer := range a.Completions {
			letter := byte('A' + i)
			if answer != " "+string(rune(letter)) || len(a.LogShares) != len(a.Completions) {
				return fmt.Errorf("%s: completions %q with %d log-shares: want the letters in their order, each with one", answersFile, a.Completions, len(a.LogShares))
			}
			prompt.Letters, prompt.Order = append(prompt.Letters, letter), append(prompt.Order, i)
		}
		ours, err := m.Rank(p.ctx, prompt)
		if err != nil {
			return fmt.Errorf("%s: %w", answersFile, err)
		}
		for i, share := range ours {
			square += (share - a.LogShares[i]) * (share - a.LogShares[i])
			n++
		}
	}
}
