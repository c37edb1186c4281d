package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
)

// joinFlags say how clicks become rewards.
type joinFlags struct {
	AttributionWindow time.Duration      `help:"Time after a list was first shown in which what happens to its items counts for it." env:"R2REC_ATTRIBUTION_WINDOW" default:"30m" group:"Rewards"`
	Lateness          time.Duration      `help:"How late an event may reach Kafka and count for certain; rewards are final that much after their window." env:"R2REC_LATENESS" default:"5m" group:"Rewards"`
	ShowableFor       time.Duration      `help:"Time after it was made in which a list may be shown first: what serve --ttl says." env:"R2REC_SHOWABLE_FOR" default:"24h" group:"Rewards"`
	Reward            map[string]float64 `help:"What an interaction earns, as TYPE=VALUE;…; the others keep purchase=3;like=1;click=1;cart=1;rating=1;dislike=-1;hide=-1. A bad rating earns the negative of a good one, and one between the bounds nothing." env:"R2REC_REWARD" placeholder:"TYPE=VALUE" group:"Rewards"`
	Examination       []string           `help:"Which slots were looked at: cascade, or for a surface (* for all others) the probability by position, as home=1,0.7,0.5; may be given several times." env:"R2REC_EXAMINATION" sep:";" default:"cascade" placeholder:"cascade|SURFACE=P1,P2,…" group:"Rewards"`
}

// joinHelp teaches how rewards come about, under the help of the commands that make them.
const joinHelp = `Rewards: it also joins interactions to decisions and publishes to the topic rewards what each shown slot earned,
as a consumer group of its own (GROUP-rewards). Only what was shown earns: an impression event with the decision's
id, or GET /v1/users/USER/recommendations?shown=true. A click that names its decision belongs to it; one that does
not, to the list that last showed the user the item within --attribution-window. Rewards come when the window and
twice to three times --lateness are over, because until then something may still arrive.

  --reward 'purchase=10;like=2' --examination cascade --attribution-window 1h`

// check finds what is wrong with the flags before anything is reached.
func (f joinFlags) check() error {
	for _, flag := range []struct {
		name  string
		value time.Duration
	}{{"--attribution-window", f.AttributionWindow}, {"--lateness", f.Lateness}, {"--showable-for", f.ShowableFor}} {
		if flag.value < time.Millisecond || flag.value > consumer.MaxWindow {
			return misuse("%s %v: want at least 1ms and at most %v", flag.name, flag.value, consumer.MaxWindow)
		}
	}
	if f.AttributionWindow < f.Lateness {
		return misuse("--attribution-window %v: want at least as long as --lateness, %v, or a decision that comes twice would earn twice", f.AttributionWindow, f.Lateness)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Reward)) {
		switch v := f.Reward[name]; {
		case !slices.Contains(event.Types, event.Type(name)):
			return misuse("--reward %s=%v: there is no such interaction, want one of %s", name, v, typeNames())
		case event.Type(name) == event.Impression:
			return misuse("--reward %s=%v: to be shown earns nothing, want another of %s", name, v, typeNames())
		case math.IsNaN(v) || math.IsInf(v, 0):
			return misuse("--reward %s=%v: want a finite number", name, v)
		}
	}
	return nil
}

// options of the joiner, of a process that reads Kafka as this member. A list of lists for surfaces is parsed by the
// consumer.
func (f joinFlags) options(rf redisFlags, member consumer.Member) (opt consumer.JoinerOptions, err error) {
	if err := f.check(); err != nil {
		return opt, err
	}
	rewards := maps.Clone(consumer.DefaultRewards)
	for name, v := range f.Reward {
		rewards[event.Type(name)] = v
	}
	examination, err := consumer.ParseExamination(f.Examination)
	if err != nil {
		return opt, misuse("--examination: %w", err)
	}
	member.Group += "-rewards"
	return consumer.JoinerOptions{
		Member: member,
		Window: f.AttributionWindow, Lateness: f.Lateness, Showable: f.ShowableFor, Rewards: rewards, Examination: examination,
		PositiveRating: rf.Positive, NegativeRating: rf.Negative,
	}, nil
}

// sayTime is a time for people: 15s, 8m, 1h30m.
func sayTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// rewardRule says to people when rewards are final.
func rewardRule(window, lateness time.Duration) string {
	return fmt.Sprintf("What happens within %s after a list was first shown counts for it; its reward is final after that and some %s more.", sayTime(window), sayTime(2*lateness))
}

func typeNames() string {
	names := make([]string, len(event.Types))
	for i, t := range event.Types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

func newJoiner(p *process, kc *broker.Client, graph *graphcache.Generations, reg prometheus.Registerer, opt consumer.JoinerOptions) (*consumer.Joiner, error) {
	opt.Brokers, opt.Dialer, opt.Transport = kc.Brokers(), kc.Dialer, kc.Transport
	opt.Topics = consumer.JoinTopics{Interactions: kc.Topic(broker.Interactions), Decisions: kc.Topic(broker.Decisions),
		Rewards: kc.Topic(broker.Rewards), DeadLetters: kc.Topic(broker.DeadLetters)}
	opt.Forgets = forgets(kc, graph)
	opt.Store, opt.Logger, opt.Registerer, opt.Now = graph, p.log, reg, time.Now
	return consumer.NewJoiner(opt)
}

// healthOf sums up a member of a consumer group: its trouble, or how many records it is behind.
func healthOf(h func() consumer.Health, records string) func(context.Context) (web.State, string) {
	return func(context.Context) (web.State, string) {
		h := h()
		if t := h.Group; t.Error != "" {
			return web.Degraded, t.Doing + ": " + t.Error
		}
		var lag int64
		for _, part := range h.Partitions {
			if t := part.Trouble; t.Error != "" {
				return web.Degraded, fmt.Sprintf("%s/%d: %s: %s", part.Topic, part.Partition, t.Doing, t.Error)
			}
			lag += part.Lag
		}
		return web.OK, strconv.FormatInt(lag, 10) + " " + records
	}
}
