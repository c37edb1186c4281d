// Package reasoner turns what the graph knows about a user into a recommendation that explains itself.
//
// Asked for a user it takes a snapshot of the graph (history, candidates, evidence, chains), writes it as a prompt, has
// the model rank the candidates, draws the slate, finds the thought behind each shown item, logs the decision and
// stores the document that apps read:
//
//	snapshot -> prompt -> model -> ranking -> slate -> thought, measured, checked -> decision (Kafka) -> document (Redis)
//
// Nothing the model says is trusted. It can only move shares between candidates that the graph proposed; a model that
// is slow, down or talks nonsense costs a recommendation nothing but its reasoning: the graph's ranking is served,
// marked as such, and counted. Every edge that a shown step cites is an edge of the snapshot. Where the graph
// can mask chains, a step cites only such without which its item's share would be smaller, and says by how much;
// Measure tells over many decisions how faithful thoughts are.
//
// A decision is in the log before its document can be seen. Where the log does not take it, the document is served
// without a decision id, so that nothing is ever attributed to a decision that nobody can look up.
//
// The package reads no Kafka and knows no graph key: graph, model and log are the small interfaces it declares.
package reasoner

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// Graph answers with what a ranking is made from.
type Graph interface {
	Snapshot(ctx context.Context, q GraphQuery) (GraphSnapshot, error)
}

// GraphQuery asks for the candidates of a user.
type GraphQuery struct {
	User       string
	Candidates int                           // wanted
	Rank       func(event.Context) []float64 // chooses the best of what is found
	Trending   int                           // of them, popular at the moment
	Explore    int                           // of them, drawn at random
	Chains     int                           // strongest chains to return
	History    int                           // newest history items to return
	At         event.Time                    // the moment of asking
	Rand       *mathrand.Rand                // draws the exploration
}

// GraphSnapshot is what the graph knew at one moment.
type GraphSnapshot struct {
	Context event.Context
	NoEntry int     // candidates left out for want of a catalogue entry
	Without Without // nil: chains are not measured
}

// Model ranks the candidates of a prompt.
type Model interface {
	// Identity names the weights that rank, and the version of the prompts that they read; the digest of the prompt is
	// left empty.
	Identity(ctx context.Context) (event.Model, error)
	// Rank returns the log of each candidate's share, in the order of the prompt's context. An error with a method
	// Nonsense() bool that answers true says that the model answered, but nothing that ranks.
	Rank(ctx context.Context, p iot.Prompt) ([]float64, error)
}

// Thinker is a Model that can say why before it answers. It does where its identity says so (event.Model.Think).
type Thinker interface {
	Model
	// Think writes a thought about the prompt of a context, and ranks as Rank does, of the prompt with what is grounded of
	// the thought before its answer. It is asked for prompts of iot.Thoughts only.
	Think(ctx context.Context, c event.Context, p iot.Prompt) (said iot.Reply, logShares []float64, err error)
}

// Models says which model answers whom. Only is one model for everybody, a Switch changes it while requests go on.
type Models interface {
	// Hold returns the model that answers the user. It stays what it is, and open, until release is called, which has to
	// be once: a request holds one for its whole life, and is answered wholly by it. The error says that there is none now.
	Hold(ctx context.Context, user string) (m Model, release func(), err error)
}

// Only is one model for everybody, for good.
func Only(m Model) Models { return only{m} }

type only struct{ Model }

func (o only) Hold(context.Context, string) (Model, func(), error) { return o.Model, func() {}, nil }

// Log keeps decisions for good.
type Log interface {
	PublishDecision(ctx context.Context, d event.Decision) error
}

// Store holds what apps read.
type Store interface {
	Put(ctx context.Context, m Made) error
}

// Options of a Reasoner. The zero value of a field takes the default its comment states.
type Options struct {
	Graph Graph // required
	// Rank ranks without a language model: one score a candidate, the log-odds of being chosen from this list up to a
	// constant. Required.
	Rank func(event.Context) []float64
	// Weights is the digest of what Rank ranks by; decisions record it.
	Weights string
	Models  Models // nil: the graph ranks
	Log     Log    // required
	Store   Store  // required

	// K is how many items are shown where a request does not say. Default 5, at most MaxK.
	K int
	// Candidates ranked for one request. Default 20, which is also the most: one letter each.
	Candidates int
	// Trending and Exploring are slots among the candidates. Defaults 3 and 2.
	Trending, Exploring int
	// ControlShare is the share of users, by hash, who always get the graph's ranking, to compare with. Default 0.
	ControlShare float64
	// ExploreShare is the share of users, by hash, whose slate is drawn; the others get the best K. Default 0:
	// nobody, and nothing to learn from.
	ExploreShare float64
	// Temperature τ of the softmax that slates are drawn from. Default 1.
	Temperature float64
	// ModelWeight is the model's part in the ranking beside the graph's, 0 to 1; .5 counts both alike. Default 0: it
	// is asked and recorded, and has no say.
	ModelWeight float64
	// ModelTimeout is the longest a request waits for the model, its turn included. Who would not get a turn early enough
	// does not wait. Default 10 s.
	ModelTimeout time.Duration
	// ModelConcurrency is how many prompts are with the model at once. Default 2.
	ModelConcurrency int
	// MaskModel asks the model again for every chain that is masked, 15 times a request with the default K: for models
	// that take milliseconds. Default false: contributions are those to the graph's ranking alone, and say so.
	MaskModel bool
	// MaskTimeout is the longest a request waits for its chains to be measured, the turns with the model included.
	// Chains that are left then are shown without a contribution. Default 100 ms.
	MaskTimeout time.Duration
	// LogTimeout is the longest a request waits for the decision to be logged. Default 2 s.
	LogTimeout time.Duration

	Now        func() time.Time      // required
	Entropy    io.Reader             // of decision ids and seeds. Default crypto/rand
	Logger     *slog.Logger          // Default: discarded
	Registerer prometheus.Registerer // Default: metrics are counted but not registered
}

// MaxK is the longest slate.
const MaxK = 20

// Reasoner makes recommendations. It is safe for concurrent use.
type Reasoner struct {
	opt     Options
	turns   *turns
	trouble trouble
	metrics *metrics
}

// New validates the options.
func New(opt Options) (*Reasoner, error) {
	opt = opt.withDefaults()
	switch {
	case opt.Graph == nil || opt.Rank == nil || opt.Log == nil || opt.Store == nil || opt.Now == nil:
		return nil, errors.New("reasoner: Graph, Rank, Log, Store and Now are required")
	case opt.K < 1 || opt.K > MaxK:
		return nil, fmt.Errorf("reasoner: K is %d, must be 1 to %d", opt.K, MaxK)
	case opt.Candidates < 1 || opt.Candidates > iot.MaxCandidates:
		return nil, fmt.Errorf("reasoner: Candidates is %d, must be 1 to %d", opt.Candidates, iot.MaxCandidates)
	case opt.Trending < 0 || opt.Exploring < 0 || opt.Trending+opt.Exploring > opt.Candidates:
		return nil, fmt.Errorf("reasoner: Trending and Exploring are %d and %d, must be at least 0 and fit into %d Candidates", opt.Trending, opt.Exploring, opt.Candidates)
	case !share(opt.ControlShare) || !share(opt.ExploreShare):
		return nil, fmt.Errorf("reasoner: ControlShare and ExploreShare are %v and %v, must be 0 to 1", opt.ControlShare, opt.ExploreShare)
	case !(opt.Temperature > 0) || math.IsInf(opt.Temperature, 0):
		return nil, fmt.Errorf("reasoner: Temperature is %v, must be positive", opt.Temperature)
	case !share(opt.ModelWeight):
		return nil, fmt.Errorf("reasoner: ModelWeight is %v, must be 0 to 1", opt.ModelWeight)
	case opt.ModelConcurrency < 1:
		return nil, fmt.Errorf("reasoner: ModelConcurrency is %d, must be at least 1", opt.ModelConcurrency)
	}
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, err
	}
	return &Reasoner{opt: opt, turns: newTurns(opt.ModelConcurrency, opt.Now), metrics: m}, nil
}

func (opt Options) withDefaults() Options {
	defaultTo(&opt.K, 5)
	defaultTo(&opt.Candidates, iot.MaxCandidates)
	defaultTo(&opt.Trending, 3)
	defaultTo(&opt.Exploring, 2)
	defaultTo(&opt.Temperature, 1)
	defaultTo(&opt.ModelTimeout, 10*time.Second)
	defaultTo(&opt.ModelConcurrency, 2)
	defaultTo(&opt.MaskTimeout, 100*time.Millisecond)
	defaultTo(&opt.LogTimeout, 2*time.Second)
	if opt.Entropy == nil {
		opt.Entropy = rand.Reader
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return opt
}

// query asks the graph for what a list for the user is made from.
func (opt *Options) query(user string, at event.Time, exploration *mathrand.Rand) GraphQuery {
	return GraphQuery{
		User: user, Candidates: opt.Candidates, Rank: opt.Rank, Trending: opt.Trending, Explore: opt.Exploring,
		Chains: maxChains, History: maxHistory, At: at, Rand: exploration,
	}
}

// DefaultQuery is what a Reasoner of default options asks the graph for a user: what a recommendation costs the graph can
// be measured by it.
func DefaultQuery(user string, rank func(event.Context) []float64, at event.Time, exploration *mathrand.Rand) GraphQuery {
	opt := Options{Rank: rank}.withDefaults()
	return opt.query(user, at, exploration)
}

func defaultTo[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func share(v float64) bool { return v >= 0 && v <= 1 }

// Request asks for a recommendation.
type Request struct {
	User    string
	K       int    // items to show; 0: the configured number
	Surface string // which page or slot group asks; kept in the decision
}

// Recommend makes, logs and stores a fresh recommendation. It fails only where the request is wrong or the graph
// cannot be read; a failed model, log or store is told in the document, the log and the metrics. A graph that knows
// nothing to show gives a document without items, which is neither logged nor stored.
func (r *Reasoner) Recommend(ctx context.Context, req Request) (event.Recommendation, event.Decision, error) {
	defaultTo(&req.K, r.opt.K)
	if err := errors.Join(event.CheckUserID(req.User), event.CheckK(req.K, MaxK)); err != nil {
		return event.Recommendation{}, event.Decision{}, err
	}
	start := r.opt.Now()
	d := event.Decision{UserID: req.User, Surface: req.Surface, Timestamp: event.At(start), Temperature: r.opt.Temperature,
		Source: event.Graph, Weights: r.opt.Weights, Control: policy.InShare("control", req.User, r.opt.ControlShare), Explore: policy.InShare("explore", req.User, r.opt.ExploreShare)}
	var err error
	if d.DecisionID, d.Seed, err = r.draw(); err != nil {
		return event.Recommendation{}, event.Decision{}, err
	}
	snap, err := r.opt.Graph.Snapshot(ctx, r.opt.query(req.User, d.Timestamp, policy.Generator(d.Seed, policy.Exploration)))
	if err != nil {
		return event.Recommendation{}, event.Decision{}, fmt.Errorf("recommend for user %q: %w", req.User, err)
	}
	r.metrics.seconds.WithLabelValues("graph").Observe(r.opt.Now().Sub(start).Seconds())
	d.Context = snap.Context
	if len(d.Context.Candidates) == 0 {
		return r.empty(d, snap), d, nil
	}

	var held Model
	var model []float64
	var said event.Thought
	switch {
	case r.opt.Models == nil:
	case d.Control:
		d.Fallback = FallbackControl
	default:
		var release func()
		held, release, model, said, d.Model, d.Fallback = r.reason(ctx, d)
		defer release()
	}
	if model != nil {
		d.Source, d.ModelWeight, d.Said = event.Reasoned, r.opt.ModelWeight, said.Steps
	}
	d.Scores = policy.Pool(r.graphShares(d.Context), model, r.opt.ModelWeight)
	d.Slate = policy.Slate(d, req.K)
	thought, ungrounded := iot.Check(r.explain(ctx, d, held, said, snap.Without), d.Context, d.Slate)
	if err := ctx.Err(); err != nil { // nobody waits for it any more: no decision is made
		return event.Recommendation{}, event.Decision{}, fmt.Errorf("recommend for user %q: %w", req.User, err)
	}
	for _, e := range ungrounded {
		r.opt.Logger.Error("a step of a thought was not grounded in the graph and is not shown", "user", req.User, "decision", d.DecisionID, "error", e)
	}
	r.metrics.ungrounded.Add(float64(len(ungrounded)))
	d.Thought = thought

	rec := document(d, snap)
	if !r.log(ctx, d) {
		rec.DecisionID = ""
	}
	faulty := rec.DecisionID == "" || d.Fallback != "" && d.Fallback != FallbackControl
	if err := r.opt.Store.Put(ctx, Made{Recommendation: rec, Ranking: finalScores(d), Faulty: faulty}); hasFallen(err) {
		r.opt.Logger.Info("recommendation not stored", "decision", d.DecisionID, "error", err)
	} else if err != nil {
		r.metrics.unstored.Inc()
		r.opt.Logger.Error("recommendation served but not stored for apps", "user", req.User, "decision", d.DecisionID, "error", err)
	}
	r.metrics.made.WithLabelValues(string(d.Source), d.Fallback).Inc()
	r.metrics.thought(d.Thought)
	r.metrics.seconds.WithLabelValues("all").Observe(r.opt.Now().Sub(start).Seconds())
	return rec, d, nil
}

const (
	maxChains  = 48
	maxHistory = 32 // as many as chains start from, so that each chain's item has a title; the prompt takes fewer
)

// log publishes the decision within its own time limit, so that a stalled broker does not stall the answer.
func (r *Reasoner) log(ctx context.Context, d event.Decision) bool {
	ctx, cancel := context.WithTimeout(ctx, r.opt.LogTimeout)
	defer cancel()
	if err := r.opt.Log.PublishDecision(ctx, d); err != nil {
		r.metrics.unlogged.Inc()
		r.opt.Logger.Error("decision not logged: its document carries no decision id, clicks on it teach nothing", "user", d.UserID, "decision", d.DecisionID, "error", err)
		return false
	}
	return true
}

// draw makes a decision id of 128 random bits and a seed below 2^53, which JSON numbers carry exactly.
func (r *Reasoner) draw() (id string, seed uint64, err error) {
	var b [24]byte
	if _, err := io.ReadFull(r.opt.Entropy, b[:]); err != nil {
		return "", 0, fmt.Errorf("reasoner: draw a decision id: %w", err)
	}
	return "d-" + idEncoding.EncodeToString(b[:16]), binary.LittleEndian.Uint64(b[16:]) >> 11, nil
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
