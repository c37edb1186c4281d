// Command r2rec is the whole product in one binary: it imports events into Kafka, applies them to the graph in Redis,
// recommends, serves, and shows all of it in a demo that needs nothing installed. Each subcommand is a file of its own
// that wires the packages together; `r2rec COMMAND --help` teaches it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
)

// cli is every flag, variable and command. Flags may stand before or after the command.
type cli struct {
	LogLevel slog.Level      `help:"Least important messages to log: debug, info, warn or error." env:"R2REC_LOG_LEVEL" default:"info"`
	Config   kong.ConfigFlag `help:"JSON file of flags, such as {\"redis\": \"redis://...\", \"half-life\": \"4380h\"}; the command line and the environment go first." type:"path"`
	LogJSON  bool            `help:"Log as JSON, for machines." env:"R2REC_LOG_JSON"`

	Demo      demoCommand      `cmd:"" help:"See everything at work on real data; needs nothing but this binary."`
	Import    importCommand    `cmd:"" help:"Put a data set's items and interactions into Kafka."`
	Consume   consumeCommand   `cmd:"" help:"Apply Kafka's events to the graph in Redis, until stopped."`
	Serve     serveCommand     `cmd:"" help:"Answer over HTTP: recommendations, events in, health, metrics, a page."`
	Recommend recommendCommand `cmd:"" help:"Recommend for one user, here in the terminal, with the reasoning."`
	Graph     graphCommand     `cmd:"" help:"See what the graph holds: counts, memory, lag, a user's or an item's neighbourhood."`
	Plan      planCommand      `cmd:"" help:"Predict how much memory a graph takes in Redis, and what to set."`
	Forget    forgetCommand    `cmd:"" help:"Forget a user: everything of theirs leaves Redis, for good."`
	Factors   factorsCommand   `cmd:"" help:"Learn latent factors of all items from the graph, for servers to rank with."`
	Rebuild   rebuildCommand   `cmd:"" help:"Build the graph anew from Kafka beside the one that serves, and switch to it."`
	Eval      evalCommand      `cmd:"" help:"Measure rankings on a data set with known answers."`
	Adapters  adaptersCommand  `cmd:"" help:"See and steer which adapter is served: promotions, roll-backs, files."`
	LM        lmCommand        `cmd:"" name:"lm" help:"Make and teach the language model that runs within this program."`
	Train     trainCommand     `cmd:"" help:"Learn from rewards: a new adapter, judged by a gate, rolled out."`
	Ope       opeCommand       `cmd:"" help:"Judge a policy by the log of another one."`
	Bench     benchCommand     `cmd:"" help:"Measure speed, beside limits and peers in the same run."`
}

// process is what the surroundings give to a command.
type process struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
	asJSON bool // what it logs, and why it ends
}

func main() {
	redis.SetLogger(quiet{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends what does not end by itself
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	os.Exit(code)
}

// Exit codes: exitStopped is that of a command that a signal stopped before it was done, exitMisused of one whose flags or
// arguments are wrong (usage), so that it would fail however often it is run.
const (
	exitStopped = 130
	exitMisused = 2
)

// unfinished is the error of a command that has left something behind which people have to know, also where a signal stopped
// it. Whatever else is stopped ends without a word.
type unfinished struct{ error }

func (e unfinished) Unwrap() error { return e.error }

// usage is the error of a command that was got wrong.
type usage struct{ error }

func (e usage) Unwrap() error { return e.error }

// wrong says of what checking flags has found that the command was got wrong.
func wrong(err error) error {
	if err == nil {
		return nil
	}
	return usage{err}
}

// misuse is such an error.
func misuse(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

// endless is a command that runs until it is stopped, by its flags or always: stopped, it is done.
type endless interface{ endless() bool }

// Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped before it was done; others are told by the help of the command.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited, code := false, 0
	parser, err := newParser(&c, kong.Writers(stdout, stderr), kong.Exit(func(n int) { exited, code = true, n }))
	if err != nil {
		fmt.Fprintln(stderr, "r2rec:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exited { // --help has been printed
		return code
	}
	if err != nil { // flags may not have been taken over
		asJSON := c.LogJSON || slices.Contains(args, "--log-json")
		p := &process{stderr: stderr, log: newLogger(stderr, slog.LevelInfo, asJSON), asJSON: asJSON}
		p.misused(err, commandOf(err))
		return exitMisused
	}
	p := &process{ctx: ctx, stdout: stdout, stderr: stderr, log: newLogger(stderr, c.LogLevel, c.LogJSON), asJSON: c.LogJSON}
	return p.end(k.Run(p), k.Selected())
}

// newParser reads command lines into c.
func newParser(c *cli, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append([]kong.Option{
		kong.Name("r2rec"),
		kong.Description("A streaming recommender that explains itself and learns from clicks. Events come from Kafka, the graph lives in Redis, a language model reasons over it.\n\nStart with: r2rec demo"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Configuration(configuration),
		evalVars(),
		replayVars(),
		planVars(),
	}, more...)...)
}

// end says why a command ended, and is its exit code.
func (p *process) end(err error, command *kong.Node) int {
	var (
		said    exit
		left    unfinished
		misused usage
	)
	stopped := errors.Is(err, context.Canceled) && p.ctx.Err() != nil
	switch {
	case err == nil:
		return 0
	case stopped:
		if c, ok := command.Target.Interface().(endless); ok && c.endless() {
			return 0
		}
		if errors.As(err, &left) {
			p.tell(err)
		}
		return exitStopped
	case errors.As(err, &said):
		return int(said)
	case errors.As(err, &misused):
		p.misused(err, command.FullPath())
		return exitMisused
	}
	p.tell(err)
	return 1
}

// tell says what a command ends with, beside its log or, for machines, as a line of it.
func (p *process) tell(err error) {
	if p.asJSON {
		p.log.Error("the command has ended", "error", err)
		return
	}
	fmt.Fprintln(p.stderr, "r2rec:", err)
}

// misused tells what is wrong with a command, and which help to read.
func (p *process) misused(err error, command string) {
	if p.asJSON {
		p.log.Error("wrong usage", "error", err, "try", command+" --help")
		return
	}
	fmt.Fprintf(p.stderr, "r2rec: %v\nTry: %s --help\n", err, command)
}

// commandOf is the command that was got wrong, as far as it is known.
func commandOf(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		if n := wrong.Context.Selected(); n != nil {
			return n.FullPath()
		}
	}
	return "r2rec"
}

// exit ends a command with a code of its own, after it has said everything itself.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitWith is nil for 0.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exit(code)
}

// quiet drops what the Redis client says by itself, one line a failed connection: what matters of it comes back as an
// error, and is logged where it is handled.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func newLogger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
