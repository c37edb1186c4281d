package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/kernel"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// benchCommand are the commands that measure speed.
type benchCommand struct {
	LM    benchLMCommand    `cmd:"" name:"lm" help:"How fast the embedded language model recommends, reads and writes."`
	Train benchTrainCommand `cmd:"" help:"How fast the embedded language model learns."`
	Swap  benchSwapCommand  `cmd:"" help:"What requests see of adapters that are swapped under them."`

	Retrieve benchRetrieveCommand `cmd:"" help:"How fast the graph answers what a recommendation asks."`
	Memory   benchMemoryCommand   `cmd:"" help:"What the graph takes in Redis, beside bare sorted sets."`
	Ingest   benchIngestCommand   `cmd:"" help:"How fast interactions come through Kafka into the graph, and how soon."`
}

// figure is one measured number. Its metric's name is part of the contract with machines.
type figure struct {
	Command string  `json:"command"`
	Metric  string  `json:"metric"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Model   string  `json:"model,omitempty"` // that was measured
	Of      string  `json:"of"`              // what was measured, in words
	Threads int     `json:"threads"`
	Samples int     `json:"samples,omitempty"` // of which the value is the median, or the best
	P90     float64 `json:"p90,omitempty"`
	P99     float64 `json:"p99,omitempty"`
	Best    float64 `json:"best,omitempty"`
	Peer    string  `json:"peer,omitempty"` // that a ratio is to, or that is missing
	counted bool    // 0 is a figure too
	machine
}

// machine is where a figure was measured.
type machine struct {
	Machine string `json:"machine"`
	Cores   int    `json:"cores"`
	Go      string `json:"go"`
	Kernels string `json:"kernels"` // instruction set of the model's kernels
}

func thisMachine() machine {
	m := machine{Machine: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), Kernels: kernel.Version()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil { // other systems say it elsewhere
		return m
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Machine = strings.TrimSpace(value) + ", " + m.Machine
			break
		}
	}
	return m
}

// benchReport collects the figures of one run.
type benchReport struct {
	command string
	machine machine
	figures []figure
}

func (r *benchReport) add(f figure) {
	f.Command, f.machine = r.command, r.machine
	r.figures = append(r.figures, f)
}

// peersMissing counts peers that could not be measured: each has a line of its own, and its ratio is left out.
const peersMissing = "peers_missing"

func (r *benchReport) missing(peer, why string) {
	r.add(figure{Metric: peersMissing, Value: 1, Unit: "peers", Of: why, Peer: peer})
}

// write prints all figures, as a table or one JSON object a line. One that stands twice, or is no positive number where it should be, is
// an error, and then nothing is written.
func (r *benchReport) write(w io.Writer, asJSON bool) error {
	seen := map[string]bool{}
	for _, f := range r.figures {
		if seen[f.Metric] || !(f.Value > 0) && !(f.counted && f.Value == 0) || math.IsInf(f.Value, 0) {
			return fmt.Errorf("%s: the figure %s is %v: want a positive number, once", r.command, f.Metric, f.Value)
		}
		seen[f.Metric] = true
	}
	var out bytes.Buffer
	if asJSON {
		encode := json.NewEncoder(&out)
		for _, f := range r.figures {
			if err := encode.Encode(f); err != nil {
				return err
			}
		}
	} else if err := r.table(&out); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (r *benchReport) table(w io.Writer) error {
	fmt.Fprintf(w, "r2rec %s on %s, %d cores, %s, kernels in %s\n\n", r.command, r.machine.Machine, r.machine.Cores, r.machine.Go, r.machine.Kernels)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "metric\tvalue\tunit\tthreads\tmeasured")
	for _, f := range r.figures {
		if f.Metric == peersMissing {
			continue
		}
		of := f.Of
		if f.P90 > 0 {
			of += fmt.Sprintf("; p90 %s, p99 %s", decimal(f.P90), decimal(f.P99))
		}
		if f.Best > 0 {
			of += fmt.Sprintf("; best %s", decimal(f.Best))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", f.Metric, decimal(f.Value), f.Unit, f.Threads, of)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.figures {
		if f.Metric == peersMissing {
			fmt.Fprintf(w, "\n%s was not measured, so there is no ratio to it: %s\n", f.Peer, f.Of)
		}
	}
	return nil
}

// decimal shows three digits, and all those before the point.
func decimal(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// quantile is the value below which a share of the samples lies; 0 of none.
func quantile(samples []float64, share float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func median(samples []float64) float64 { return quantile(samples, .5) }

// quickest runs op and a loop of multiply-adds so many times in turn, and returns the shortest time of op, and the most
// operations a second of the loop: what they do while nothing else has the core.
func quickest(runs int, op func()) (took time.Duration, peak float64) {
	took = math.MaxInt64
	for range runs {
		start := time.Now()
		op()
		middle := time.Now()
		flops := kernel.FMALoop(20_000)
		took, peak = min(took, middle.Sub(start)), max(peak, flops/time.Since(middle).Seconds())
	}
	return took, peak
}

// products measures the matrix products of a model's layers on so many rows, on one core: floating-point operations a
// second over all of them, and the core's peak.
func products(c llama.Config, rows, runs int) (rate, peak float64) {
	var flops, seconds float64
	filled := func(rows, cols int) kernel.Matrix {
		m := kernel.View(make([]float32, rows*cols), rows, cols)
		for i := range m.Data {
			m.Data[i] = float32(i%17+1) / 16 // neither 0 nor denormal
		}
		return m
	}
	for _, name := range c.Linears() {
		out, in := c.LinearShape(name)
		x, y, w := filled(rows, in), filled(rows, out), kernel.Pack(filled(out, in))
		took, most := quickest(runs, func() { kernel.MulPacked(y, x, w, false) })
		flops += 2 * float64(rows) * float64(out) * float64(in)
		seconds += took.Seconds()
		peak = max(peak, most)
	}
	return flops / seconds, peak
}

// measuredBase is the model that recommends: the one that travels with the program, or one in its place.
type measuredBase struct {
	Base string `help:"GGUF file of a model to recommend with; empty: the base model that travels with the program." type:"existingfile" placeholder:"FILE" group:"Model"`
}

func (f measuredBase) open() (*engine.Model, error) {
	return engine.Open(engine.Options{Path: f.Base, Concurrency: 2})
}

// threads is how many threads a flag asks for, 0 being one a processor.
func threads(flag int) int {
	if flag == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return flag
}
