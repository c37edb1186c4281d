package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/reasoner"
	"github.com/redis/go-redis/v9"
)

// kafkaFlags say where Kafka is.
type kafkaFlags struct {
	Kafka         []string `help:"Kafka brokers to begin with, host:port." env:"R2REC_KAFKA" default:"127.0.0.1:9092" group:"Kafka"`
	TopicPrefix   string   `help:"Put before every topic's name." env:"R2REC_TOPIC_PREFIX" group:"Kafka"`
	KafkaTLS      bool     `name:"kafka-tls" help:"Encrypt; implied by the files below." env:"R2REC_KAFKA_TLS" group:"Kafka"`
	KafkaCA       string   `name:"kafka-ca" help:"PEM file of the authorities to trust." env:"R2REC_KAFKA_CA" type:"path" group:"Kafka"`
	KafkaCert     string   `help:"PEM file of the client's certificate." env:"R2REC_KAFKA_CERT" type:"path" group:"Kafka"`
	KafkaKey      string   `help:"PEM file of its key." env:"R2REC_KAFKA_KEY" type:"path" group:"Kafka"`
	KafkaSASL     string   `name:"kafka-sasl" help:"Authenticate by plain, scram-sha-256 or scram-sha-512." env:"R2REC_KAFKA_SASL" group:"Kafka"`
	KafkaUser     string   `help:"User for SASL." env:"R2REC_KAFKA_USER" group:"Kafka"`
	KafkaPassword string   `help:"Password for SASL; better given in the environment." env:"R2REC_KAFKA_PASSWORD" group:"Kafka"`
	Partitions    int      `help:"Partitions of topics that do not exist yet." env:"R2REC_PARTITIONS" default:"8" group:"Kafka"`
}

func (f kafkaFlags) client() (*broker.Client, error) {
	return broker.New(broker.Settings{
		Brokers: f.Kafka, TopicPrefix: f.TopicPrefix,
		TLS: f.KafkaTLS, CAFile: f.KafkaCA, CertFile: f.KafkaCert, KeyFile: f.KafkaKey,
		SASL: f.KafkaSASL, User: f.KafkaUser, Password: broker.Secret(f.KafkaPassword),
	})
}

// redisFlags say where the graph is and how it reads events.
type redisFlags struct {
	Redis     string        `help:"Redis, as redis://user:password@host:port/db, or rediss:// with TLS. Of a Redis Cluster any node; more to begin with follow as ?addr=host:port&addr=host:port." env:"R2REC_REDIS" default:"redis://127.0.0.1:6379/0" group:"Redis"`
	Prefix    string        `help:"Put before every key." env:"R2REC_PREFIX" default:"r2:" group:"Redis"`
	ForgetKey string        `help:"Secret that keys the hash by which forgotten users are remembered. Set it once, keep it." env:"R2REC_FORGET_KEY" group:"Redis"`
	Positive  float64       `help:"Ratings of at least this count as liked." env:"R2REC_POSITIVE_RATING" default:"4" group:"Redis"`
	Negative  float64       `help:"Ratings of at most this count as disliked, those above it and below the other bound as seen and no more." env:"R2REC_NEGATIVE_RATING" default:"2" group:"Redis"`
	NoSeen    bool          `help:"Ratings between the bounds make no edge at all." env:"R2REC_NO_SEEN" group:"Redis"`
	Bound     int           `help:"Edges that each user and each item keeps, the newest, the same for all processes; 0: 128, or 96 in a Redis that is not set up for more." env:"R2REC_BOUND" default:"0" group:"Redis"`
	anew      bool          // the command begins a graph, whatever bounds the others have
	HalfLife  time.Duration `help:"Time in which a choice loses half its weight." env:"R2REC_HALF_LIFE" default:"17520h" group:"Redis"`
}

// check finds what is wrong with the flags before anything is reached.
func (f redisFlags) check() error {
	switch {
	case f.Bound < 0:
		return misuse("--bound %d: want at least 1 edge, or 0 for the usual number", f.Bound)
	case !(f.Negative < f.Positive):
		return misuse("--negative %v, --positive %v: want a bound of bad ratings below that of good ones", f.Negative, f.Positive)
	case f.HalfLife <= 0:
		return misuse("--half-life %v: want more than 0, such as 720h", f.HalfLife)
	}
	return nil
}

func (f redisFlags) graph(rdb redis.UniversalClient, p *process) (*graphcache.Generations, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	read := graphcache.DefaultRead
	read.HalfLife = f.HalfLife
	return graphcache.NewGenerations(rdb, graphcache.Options{
		Prefix: f.Prefix, Bound: f.Bound, Anew: f.anew, ForgetKey: []byte(f.ForgetKey), Read: read, Logger: p.log,
		Policy: graphcache.Policy{PositiveRating: f.Positive, NegativeRating: f.Negative, NoSeen: f.NoSeen},
	})
}

// warnForgetKey says what it means that no key is set, where users are forgotten.
func (f redisFlags) warnForgetKey(p *process) {
	if f.ForgetKey == "" {
		p.log.Warn("no --forget-key is set: whoever can read redis and has a list of user ids can tell who was forgotten. "+
			"Set a secret (R2REC_FORGET_KEY), the same for all processes: stop all that consumes, run r2rec rebuild with it, and start everything with it", "docs", "docs/forgetting.md")
	}
}

// modelFlags say which model reasons.
type modelFlags struct {
	Model            string        `help:"GGUF file of a Llama-family model to run within this program; empty: the base model that travels with it. With --ollama the name of a model there; empty: the one that the server changed last. With --ollama and --adapters the GGUF file of the base model." env:"R2REC_MODEL" placeholder:"FILE|NAME" group:"Model"`
	Adapter          string        `help:"GGUF file of a LoRA adapter for the model that runs within this program, as r2rec lm tune writes it." env:"R2REC_ADAPTER" type:"existingfile" placeholder:"FILE" group:"Model"`
	Ollama           string        `help:"URL of an Ollama server that runs the model instead, such as http://127.0.0.1:11434." env:"R2REC_OLLAMA" placeholder:"URL" group:"Model"`
	NoModel          bool          `help:"Use no language model: the graph ranks." env:"R2REC_NO_MODEL" group:"Model"`
	Think            int           `help:"Have the model write a thought of at most so many tokens before it answers, which is shown as far as the graph bears it out; 0: it answers at once, which is faster and so far ranks at least as well (docs/thoughts.md). For a model that was taught to, or one large enough to do without." env:"R2REC_THINK" placeholder:"TOKENS" group:"Model"`
	MaskTimeout      time.Duration `help:"Longest wait for chains to be measured: each is masked, and the list ranked again. A model that thinks is asked again only if this is set, for it takes longer than the others; else the graph's ranking is." env:"R2REC_MASK_TIMEOUT" placeholder:"100ms" group:"Model"`
	ModelTimeout     time.Duration `help:"Longest wait for the model before the graph's ranking is served." env:"R2REC_MODEL_TIMEOUT" default:"20s" group:"Model"`
	ModelConcurrency int           `help:"Prompts that are with the model at once; more wait for their turn. 0: one a processor within this program; 2 with Ollama, and of lists that take several calls 1. A server that answers more at once (OLLAMA_NUM_PARALLEL) is sent more if you say how many." env:"R2REC_MODEL_CONCURRENCY" default:"0" group:"Model"`
	ModelWeight      *float64      `help:"The model's part in the ranking beside the graph's, 0 to 1. Default: 0.5; 0.25 with --ollama." env:"R2REC_MODEL_WEIGHT" placeholder:"PART" group:"Model"`
}

// shown is where the model runs; a server's URL without its password.
func (f modelFlags) shown() string {
	if f.Ollama == "" {
		return "within this program"
	}
	u, err := url.Parse(f.Ollama)
	if err != nil {
		return "at --ollama"
	}
	return "at " + u.Redacted()
}

// Parts of a model in the ranking. Half and half ranked best on validation cases (docs/accuracy.md); what an Ollama runs may
// know nothing of this task.
const (
	embeddedWeight = .5
	ollamaWeight   = .25
)

func (f modelFlags) weight() float64 {
	switch {
	case f.ModelWeight != nil:
		return *f.ModelWeight
	case f.Ollama != "":
		return ollamaWeight
	}
	return embeddedWeight
}

// embedded tells whether the model runs within this program, where asking it costs milliseconds.
func (f modelFlags) embedded() bool { return !f.NoModel && f.Ollama == "" }

// masks tells whether the model ranks again for each chain that is masked.
func (f modelFlags) masks() bool { return f.embedded() && (f.Think == 0 || f.MaskTimeout > 0) }

// warmWithin bounds a call that nobody waits for, such as the first, which loads the model; requests have --model-timeout.
const warmWithin = 2 * time.Minute

// open makes the model ready. It is nil where none is wanted; why says so.
func (f modelFlags) open(p *process) (m reasoner.Model, why string, err error) {
	if err := f.check(); err != nil {
		return nil, "", err
	}
	switch {
	case f.NoModel && (f.Ollama != "" || f.Model != "" || f.Adapter != ""):
		return nil, "", misuse("--no-model excludes --model, --adapter and --ollama")
	case f.NoModel:
		return nil, "no model is wanted (--no-model)", nil
	case f.Ollama != "" && f.Adapter != "":
		return nil, "", misuse("--adapter is for the model that runs within this program; Ollama has adapters in its models")
	case f.Ollama != "":
		return f.client(p)
	}
	e, err := engine.Open(thinking(engine.Options{Path: f.Model, Adapter: f.Adapter}, f.Think))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("--model: %w; it names a GGUF file here, or with --ollama URL a model of that server", err)
	}
	return e, "", err
}

// concurrency is how many prompts are with the model at once.
func (f modelFlags) concurrency() int {
	switch {
	case f.ModelConcurrency > 0:
		return f.ModelConcurrency
	case f.embedded():
		return processors()
	}
	return ollamaConcurrency
}

// ollamaConcurrency keeps a server busy that answers one prompt at a time, as they do unless they are told.
const ollamaConcurrency = 2

// asks says how a server is asked. It is taken to answer as many requests at once as it is told here to be sent, or else one.
func (f modelFlags) asks() ollama.Options {
	return ollama.Options{BaseURL: f.Ollama, Timeout: warmWithin, Think: f.Think, Lists: f.ModelConcurrency}
}

// checkOllama finds out whether --ollama is a URL. It shows nothing that a password may be in.
func (f modelFlags) checkOllama() error {
	u, err := url.Parse(f.Ollama)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return nil
	}
	said := fmt.Sprintf("%.100q", f.Ollama)
	if strings.Contains(f.Ollama, "@") {
		said = "(not shown, a password may be in it)"
	}
	return misuse("--ollama %s: want a URL with http:// or https://, such as http://127.0.0.1:11434; --no-model has the graph rank", said)
}

// check finds out which waits and counts make no sense, and where --think does not go.
func (f modelFlags) check() error {
	switch {
	case f.ModelTimeout <= 0:
		return misuse("--model-timeout %v: want more than 0; --no-model asks none", f.ModelTimeout)
	case f.ModelConcurrency < 0:
		return misuse("--model-concurrency %d: want prompts, or 0 for the default", f.ModelConcurrency)
	case f.MaskTimeout < 0:
		return misuse("--mask-timeout %v: want more than 0", f.MaskTimeout)
	case f.Think < 0:
		return misuse("--think %d: want tokens, or 0 for no thought", f.Think)
	case f.Think > 0 && f.NoModel:
		return misuse("--think and --no-model exclude each other: it is the model that thinks")
	case f.Think > 0 && f.Model == "" && f.Ollama == "":
		return misuse("--think needs a --model that knows words: the one that travels with the program knows figures only")
	}
	return nil
}

// thinking are the options of a model that thinks before it answers; 0 tokens: it answers at once.
func thinking(o engine.Options, tokens int) engine.Options {
	if tokens > 0 {
		o.Think, o.Readout, o.PromptVersion = tokens, engine.Letters, iot.Thoughts
	}
	return o
}

var (
	_ reasoner.Thinker = (*engine.Model)(nil)
	_ reasoner.Thinker = (*ollama.Model)(nil)
	_ reasoner.Thinker = (*ollama.Named)(nil)
)

// only is a model that stays; nil: the graph ranks.
func only(m reasoner.Model) reasoner.Models {
	if m == nil {
		return nil
	}
	return reasoner.Only(m)
}

// client reasons through Ollama, its letters calibrated: by the model that is named, or else by the server's last changed one
// that is not of r2rec's own making. It is nil where the server has none to choose. A named model may come and go while we run.
func (f modelFlags) client(p *process) (m reasoner.Model, why string, err error) {
	if err := f.checkOllama(); err != nil {
		return nil, "", err
	}
	name := f.Model
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && strings.HasSuffix(strings.ToLower(name), ".gguf") { // as servers with --adapters have it
		return nil, fmt.Sprintf("--model %s is a file, and with --ollama, where no log of adapters is followed, it names a model of that server: name one (ollama list), or leave out --ollama to run the file within this program", name), nil
	}
	if name == "" {
		names, err := ollama.Models(p.ctx, f.Ollama)
		names = slices.DeleteFunc(names, ollama.Made)
		switch {
		case err != nil:
			return nil, err.Error() + "; start it and then r2rec again, or name a --model to wait for", nil
		case len(names) == 0:
			return nil, "the Ollama " + f.shown() + " has no model but those that r2rec made: ollama pull one", nil
		}
		name = names[0]
	}
	o := f.asks()
	o.Model, o.Logger = name, p.log
	n, err := ollama.NewNamed(o)
	if err != nil {
		return nil, "", err
	}
	return n, "", nil
}

// recommendFlags shape lists.
type recommendFlags struct {
	TTL          time.Duration `name:"ttl" help:"Time after which a stored recommendation expires." env:"R2REC_TTL" default:"24h" group:"Recommendations"`
	ExploreShare float64       `help:"Share of users whose list is drawn rather than the best: what learning needs." env:"R2REC_EXPLORE_SHARE" default:"${explore_share}" group:"Recommendations"`
	ControlShare float64       `help:"Share of users who always get the graph's ranking, to compare with." env:"R2REC_CONTROL_SHARE" default:"0.05" group:"Recommendations"`
	Temperature  float64       `help:"Temperature of the softmax that lists are drawn from." env:"R2REC_TEMPERATURE" default:"1" group:"Recommendations"`
	Weights      string        `help:"Rank the evidence with the weights of this file, fitted on your own data by r2rec eval --fit-before --save; empty: those that travel with the program, fitted on films." env:"R2REC_WEIGHTS" type:"path" group:"Recommendations"`
}

// check finds what is wrong with the flags before anything is reached.
func (f recommendFlags) check() error {
	isShare := func(x float64) bool { return x >= 0 && x <= 1 }
	switch {
	case f.TTL < time.Second || f.TTL > consumer.MaxWindow:
		return misuse("--ttl %v: want 1s to %v, stored recommendations have to expire", f.TTL, consumer.MaxWindow)
	case !isShare(f.ExploreShare):
		return misuse("--explore-share %v: want 0 to 1", f.ExploreShare)
	case !isShare(f.ControlShare):
		return misuse("--control-share %v: want 0 to 1", f.ControlShare)
	case !(f.Temperature > 0) || math.IsInf(f.Temperature, 0):
		return misuse("--temperature %v: want more than 0; for lists that are never drawn --explore-share 0", f.Temperature)
	}
	return nil
}

// weights of the fusion that ranks without a model.
func (f recommendFlags) weights() (*fusion.Model, error) {
	if f.Weights == "" {
		return fusion.Default(), nil
	}
	m, err := loadWeights(f.Weights)
	if err != nil {
		return nil, fmt.Errorf("--weights %s: %w", f.Weights, err)
	}
	return m, nil
}

// count is a flag that counts, and the least that makes sense.
type count struct {
	flag         string
	value, least int
}

func checkCounts(counts ...count) error {
	for _, c := range counts {
		if c.value < c.least {
			return fmt.Errorf("%s %d: want %d or more", c.flag, c.value, c.least)
		}
	}
	return nil
}

// amount is a flag that has to be more than 0: where options take their defaults for 0, it would be taken for that.
type amount struct {
	flag  string
	value float64
}

func checkAmounts(amounts ...amount) error {
	for _, a := range amounts {
		if !(a.value > 0) || math.IsInf(a.value, 0) {
			return misuse("%s %v: want more than 0", a.flag, a.value)
		}
	}
	return nil
}

// checkShare checks the share of the users who get an adapter first.
func checkShare(share float64) error {
	if !(share > 0 && share <= 1) {
		return misuse("--share %v: want more than 0, and at most 1", share)
	}
	return nil
}
