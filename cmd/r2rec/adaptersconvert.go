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

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

type adaptersConvertCommand struct {
	Folder      string `arg:"" help:"PEFT's folder: adapter_model.safetensors, adapter_config.json, and r2rec.json of the export it was learned from." type:"existingdir" placeholder:"DIR"`
	AdapterOut  string `help:"Write the adapter to this GGUF file." required:"" type:"path" placeholder:"FILE" group:"Data"`
	servedFlags `embed:""`
}

// Help is shown by `r2rec adapters convert --help`.
func (adaptersConvertCommand) Help() string {
	return `Turns a LoRA adapter that another trainer made (deploy/trainer, or anything that saves as PEFT does) into GGUF, and sees that
it answers here as it did there. Nobody is served by it yet: measure it by r2rec eval --adapter, and begin to serve it by
r2rec adapters promote, or by r2rec serve --adapter. r2rec adapters import converts too, and has the gate judge.

  r2rec adapters convert adapter --model SmolLM2-135M-Instruct.gguf --adapter-out films.gguf`
}

func (c adaptersConvertCommand) Run(p *process) error {
	dir, err := os.MkdirTemp(filepath.Dir(c.AdapterOut), ".r2rec-convert-") // beside it, so that it can be moved there whole
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "adapter.gguf")
	says, err := peftAdapter{c.Folder, engineFlags(c.servedFlags)}.convert(p, path)
	if err != nil {
		return err
	}
	if err := os.Rename(path, c.AdapterOut); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s is written, to be read by %s of prompt %d.\n", c.AdapterOut, says.Readout, says.PromptVersion)
	return err
}

// peftAdapter is an adapter that another trainer made, and the model it is for.
type peftAdapter struct {
	folder string
	engineFlags
}

// convert writes the adapter as GGUF, and returns what it says of itself. It has to be for the model, and to answer as it
// did where it was trained.
func (c peftAdapter) convert(p *process, path string) (says lora.Manifest, err error) {
	if c.Model == "" {
		return says, misuse("--model: name the GGUF file that the adapter was learned for; the model that travels with the program is taught within r2rec only, by train and lm tune")
	}
	base, err := gguf.Open(c.Model)
	if err != nil {
		return says, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	heads, err := lora.HeadsOf(base)
	if err != nil {
		return says, err
	}
	a, err := lora.ReadPEFT(c.folder, heads)
	if err != nil {
		return says, err
	}
	says = a.Manifest
	if says == (lora.Manifest{}) {
		return says, fmt.Errorf("%s has no %s: nothing says which model, readout, prompt and tokenizer it is for; r2rec train export and r2rec lm export write one", c.folder, manifestFile)
	}
	if err := a.Fits(base); err != nil {
		return says, err
	}
	if err := lora.Write(path, a); err != nil {
		return says, err
	}
	// Opened once, to hold it against the model: a mismatch is told here, before anything is read from Kafka.
	m, err := c.engineFlags.open(engine.Options{Adapter: path, Concurrency: 1})
	if err != nil {
		return says, err
	}
	return says, errors.Join(c.answersAlike(p, m), m.Close())
}

const (
	answersFile  = "answers.jsonl"
	answersApart = .05 // nats of log-share, root mean square: a GPU has some .002, one with the model in bfloat16 some .02
)

// trainerAnswer is what the trainer computed for one prompt with the adapter it wrote.
type trainerAnswer struct {
	Prompt      string    `json:"prompt"`
	Completions []string  `json:"completions"`
	LogShares   []float64 `json:"log_shares"`
}

// answersAlike compares what the adapter answers here with what it did where it was trained: rows in another order, a scale
// left out or a base that was loaded otherwise would show.
func (c peftAdapter) answersAlike(p *process, m *engine.Model) error {
	f, err := os.Open(filepath.Join(c.folder, answersFile))
	if errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("the trainer did not say what the adapter answers, so nothing tells whether it was converted right", "wanted", answersFile)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	who, err := m.Identity(p.ctx)
	if err != nil {
		return err
	}
	in, square, n := json.NewDecoder(f), 0., 0
	for {
		var a trainerAnswer
		switch err := in.Decode(&a); {
		case errors.Is(err, io.EOF) && n > 0:
			apart := math.Sqrt(square / float64(n))
			p.log.Info("answers compared with the trainer's", "log_shares", n, "root_mean_square_apart", apart)
			if !(apart <= answersApart) {
				return fmt.Errorf("%s: the adapter's log-shares differ from what the trainer computed by %.3g nats (root mean square of %d), want at most %v: it was converted, or the model loaded there, otherwise than here", answersFile, apart, n, answersApart)
			}
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", answersFile, err)
		}
		prompt := iot.Prompt{Version: who.PromptVersion, Text: a.Prompt}
		if who.Readout != string(engine.Letters) { // these are read where the prompt ends, which may be after a thought
			if prompt.Content, err = iot.Parse(a.Prompt); err != nil {
				return fmt.Errorf("%s: %w", answersFile, err)
			}
		}
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
