package peers

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

//go:embed pytorch_lora.py
var pytorchLoRA []byte

// LoRA is the training that PyTorch is asked for: adapters on the query and value layers of a Llama model of some shape,
// with random weights, since the speed does not depend on them.
type LoRA struct {
	Vocabulary  int  `json:"vocabulary"`
	Dim         int  `json:"dim"`
	Layers      int  `json:"layers"`
	Heads       int  `json:"heads"`
	KVHeads     int  `json:"kv_heads"`
	HeadDim     int  `json:"head_dim"`
	FeedForward int  `json:"feed_forward"`
	Tied        bool `json:"tied"`
	Rank        int  `json:"rank"`
	Batch       int  `json:"batch"`  // texts a step
	Tokens      int  `json:"tokens"` // a text
	Answer      int  `json:"answer"` // last tokens of a text, whose loss is learned from
	Steps       int  `json:"steps"`  // measured, after one that is not
	Threads     int  `json:"threads"`
}

// Trained is what PyTorch measured.
type Trained struct {
	TokensPerSecond float64 `json:"tokens_per_second"` // median of the steps
	Versions        string  `json:"versions"`          // of PyTorch and PEFT
}

// ErrNotInstalled says that there is no such Python, or that it lacks a package.
var ErrNotInstalled = errors.New("not installed")

// notInstalled is the exit code by which the script says so.
const notInstalled = 3

// PyTorch trains with a Python interpreter: its path, or a name to look for in PATH.
func PyTorch(ctx context.Context, python string, work LoRA) (Trained, error) {
	settings, err := json.Marshal(work)
	if err != nil {
		return Trained{}, err
	}
	cmd := exec.CommandContext(ctx, python, "-", string(settings))
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(pytorchLoRA), &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return Trained{}, ctx.Err()
	case errors.As(err, &exit) && exit.ExitCode() == notInstalled:
		return Trained{}, fmt.Errorf("pytorch: %s: %w (bench/peers/pytorch_lora.py says how)", lastLine(errs.String()), ErrNotInstalled)
	case errors.As(err, &exit):
		return Trained{}, fmt.Errorf("pytorch: %s: %w: %s", python, err, lastLine(errs.String()))
	case err != nil: // it could not be started
		return Trained{}, fmt.Errorf("pytorch: %w: %w", err, ErrNotInstalled)
	}
	var t Trained
	if json.Unmarshal(out.Bytes(), &t) != nil || !(t.TokensPerSecond > 0) {
		return Trained{}, fmt.Errorf("pytorch: %s printed %.200q, which holds no figure", python, out.String())
	}
	return t, nil
}

// lastLine is where Python says what went wrong.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
