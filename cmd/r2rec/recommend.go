package main

import (
	"encoding/json"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/reasoner"
)

type recommendCommand struct {
	User           string `arg:"" help:"The user's id."`
	K              int    `short:"k" help:"Items to show, 1 to 20." default:"5"`
	Surface        string `help:"Which page or slot group asks; kept in the decision." default:"terminal"`
	JSON           bool   `help:"Print the document that apps read, and nothing else."`
	Adapters       string `hidden:"" env:"R2REC_ADAPTERS"` // of servers: see Run
	DryRun         bool   `help:"Look only: log no decision, and leave what apps read as it is."`
	kafkaFlags     `embed:""`
	redisFlags     `embed:""`
	modelFlags     `embed:""`
	recommendFlags `embed:""`
}

// Help is shown by `r2rec recommend --help`.
func (recommendCommand) Help() string {
	return `Makes a fresh recommendation: walks the graph, asks the model, logs the decision to Kafka, stores the
document in Redis in place of the one that is there, and prints it with its reasons. Without a model, or where it
fails, the graph's own ranking is served and marked so. It ranks by the flags given here and follows no log of adapters:
beside servers that are run otherwise use --dry-run, which changes nothing. Where these follow the log of adapters through an
Ollama, R2REC_MODEL is the base model's file: here --model then has to name a model of that Ollama, or the graph ranks.`
}

// check finds what is wrong before anything is reached.
func (c recommendCommand) check() error {
	if c.K < 1 || c.K > reasoner.MaxK { // 0 would be taken for the default
		return misuse("-k %d: want 1 to %d", c.K, reasoner.MaxK)
	}
	var broken *event.Error
	if c.Surface != "" && errors.As(event.CheckUserID(c.Surface), &broken) { // surfaces keep the same rules
		return misuse("--surface %.64q %s", c.Surface, broken.Rule)
	}
	return errors.Join(c.recommendFlags.check(), event.CheckUserID(c.User))
}

func (c recommendCommand) Run(p *process) error {
	if err := c.check(); err != nil {
		return wrong(err)
	}
	if c.Adapters != "" && !c.DryRun {
		return misuse("adapters are set (R2REC_ADAPTERS, --config), and this command follows no log of adapters: it would put a list of another ranking in the place of what servers made; look with --dry-run, or ask a server over HTTP")
	}
	model, noModel, err := c.modelFlags.open(p)
	if err != nil {
		return err
	}
	open := connect
	if c.DryRun {
		open = func(p *process, kf kafkaFlags, rf redisFlags) (stores, error) { return look(p, kf, rf) } // it writes to no topic
	}
	s, err := open(p, c.kafkaFlags, c.redisFlags)
	if err != nil {
		return err
	}
	defer s.close()
	if model == nil {
		p.log.Warn("the graph ranks: there is no model", "why", noModel)
	}
	r, done, err := newReasoner(p, s.kafka, s.rdb, s.graph, only(model), c.redisFlags, c.modelFlags, c.recommendFlags, prometheus.NewRegistry(), c.DryRun)
	if err != nil {
		return err
	}
	defer done()
	if err := s.graph.RefreshTrends(p.ctx); err != nil {
		return err
	}
	if err := s.graph.RefreshFactors(p.ctx); err != nil {
		p.log.Warn("there are no latent factors to rank with", "error", err)
	}
	rec, d, err := r.Recommend(p.ctx, reasoner.Request{User: c.User, K: c.K, Surface: c.Surface})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(rec)
	}
	return printRecommendation(p.stdout, rec, d)
}
