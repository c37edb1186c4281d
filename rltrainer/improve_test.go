package rltrainer

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/policy"
)

func normal(r *rand.Rand, n int, deviation float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = deviation * r.NormFloat64()
	}
	return x
}

// The loss is the formula, computed otherwise, and its gradient the slope by differences, for every part of the pool.
func TestObjectiveOfATask(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 2; n <= 20; n++ {
		scores := normal(r, n, 2)
		task := Task{Values: normal(r, n, 1), Reference: policy.LogSoftmax(normal(r, n, 1)), Offset: normal(r, n, 1), Scale: r.Float64() * 2}
		if n%3 == 0 { // the formula without a pool
			task.Offset, task.Scale = make([]float64, n), 1
		}
		const beta = .3
		loss := func(scores []float64) (sum, reward, kl, entropy float64) {
			p, total := make([]float64, n), 0.
			for i, s := range scores {
				p[i] = math.Exp(task.Offset[i] + task.Scale*s)
				total += p[i]
			}
			for i := range p {
				p[i] /= total
				reward += p[i] * task.Values[i]
				kl += p[i] * math.Log(p[i]/math.Exp(task.Reference[i]))
				entropy -= p[i] * math.Log(p[i])
			}
			return beta*kl - reward, reward, kl, entropy
		}
		var found Outcome
		gradient := make([]float64, n)
		got, err := task.objective(beta, &found)(scores, gradient)
		must(t, err)
		want, reward, kl, entropy := loss(scores)
		if math.Abs(got-want) > 1e-12 || math.Abs(found.Reward-reward) > 1e-12 || math.Abs(found.KL-kl) > 1e-12 || math.Abs(found.Entropy-entropy) > 1e-12 {
			t.Errorf("%d candidates: loss %v and %+v, want %v, %v, %v, %v", n, got, found, want, reward, kl, entropy)
		}
		for i := range scores {
			const h = 1e-5
			move := func(by float64) float64 {
				moved := slices.Clone(scores)
				moved[i] += by
				sum, _, _, _ := loss(moved)
				return sum
			}
			if slope := (move(h) - move(-h)) / (2 * h); math.Abs(gradient[i]-slope) > 1e-8 {
				t.Errorf("%d candidates: the gradient of score %d is %v, by differences %v", n, i, gradient[i], slope)
			}
		}
	}
	task := Task{Values: make([]float64, 3)}
	if _, err := task.objective(1, new(Outcome))(make([]float64, 2), make([]float64, 2)); err == nil || !strings.Contains(err.Error(), "2 scores for the values of 3") {
		t.Errorf("%v", err)
	}
}

// At the reference itself the divergence is nothing and has no slope, so that only values count.
func TestTheReferenceCostsNothing(t *testing.T) {
	scores := []float64{.5, -1, 2}
	task := Task{Values: []float64{1, 2, 0}, Offset: []float64{.1, .2, .3}, Scale: .7}
	task.Reference = task.policy(scores)
	with, without := make([]float64, 3), make([]float64, 3)
	var found Outcome
	a, err1 := task.objective(10, &found)(scores, with)
	b, err2 := task.objective(1e-9, &found)(scores, without)
	if err := errors.Join(err1, err2); err != nil || math.Abs(a-b) > 1e-8 || found.KL > 1e-12 {
		t.Errorf("loss %v with the divergence, %v without, KL %v, %v", a, b, found.KL, err)
	}
	for i := range with {
		if math.Abs(with[i]-without[i]) > 1e-8 {
			t.Errorf("gradient %v with the divergence, %v without", with, without)
		}
	}
}

// tasks of a log, with values of a click model that knows nothing, under a reference.
func tasks(t *testing.T, rollouts []Rollout, reference Ranker, q float64) []Task {
	t.Helper()
	all := make([][]float64, len(rollouts))
	for i, r := range rollouts {
		all[i] = slices.Repeat([]float64{q}, len(r.Decision.Context.Candidates))
	}
	made, err := Prepare(t.Context(), reference, rollouts, all, TaskOptions{})
	must(t, err)
	return made
}

// The policy of a task is the one that drew, where the reference is the model that drew; and the values are the formula.
func TestPrepare(t *testing.T) {
	decisions, rewards := log(t, 100, .3, 3)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	clipped := 0
	for i, task := range tasks(t, rollouts, byCategory(.3), .25) {
		r := rollouts[i]
		drew := policy.First(r.Decision.Scores, r.Decision.Temperature)
		for a, p := range drew {
			if math.Abs(math.Exp(task.Reference[a])-p) > 1e-9 {
				t.Fatalf("rollout %d: the reference has probability %v for candidate %d, drawn was with %v", i, math.Exp(task.Reference[a]), a, p)
			}
			want := .25
			if a == r.First {
				if p < .1 {
					clipped++
				}
				want += min(1/p, 10) * (r.Reward - .25)
			}
			if math.Abs(task.Values[a]-want) > 1e-9 {
				t.Errorf("rollout %d: candidate %d has value %v, want %v", i, a, task.Values[a], want)
			}
		}
		p, err := iot.Build(iot.Figures, r.Decision.Context, r.Decision.Seed)
		must(t, err)
		if task.Prompt.Digest != p.Digest || task.Prompt.Digest != r.Decision.Model.PromptDigest {
			t.Errorf("rollout %d: another prompt", i)
		}
	}
	if clipped == 0 {
		t.Error("no probability was below a tenth: the clip was not tried")
	}
}

// What a server's calibration takes away of the model is taken away here too: by letter, not by candidate.
func TestPrepareCalibrates(t *testing.T) {
	decisions, rewards := log(t, 5, .3, 3)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	q := slices.Repeat([][]float64{make([]float64, 6)}, 5)
	prior := policy.LogSoftmax([]float64{3, 2, 1, 0, 0, 0})
	plain, err := Prepare(t.Context(), byCategory(.3), rollouts, q, TaskOptions{})
	must(t, err)
	calibrated, err := Prepare(t.Context(), byCategory(.3), rollouts, q, TaskOptions{Prior: func(_ context.Context, n int) ([]float64, error) { return prior[:n], nil }})
	must(t, err)
	for i, task := range calibrated {
		for a, letter := range task.Prompt.Letters {
			if want := plain[i].Offset[a] - task.Scale*prior[letter-'A']; math.Abs(task.Offset[a]-want) > 1e-12 {
				t.Errorf("candidate %d with letter %c: offset %v, want %v", a, letter, task.Offset[a], want)
			}
		}
	}
}

// With 1/p unclipped and any click model, the doubly robust value of a policy is unbiased: over many draws its mean is
// what the policy earns. Here no probability is below a tenth.
func TestDoublyRobustValuesAreUnbiased(t *testing.T) {
	c := toyContext(rand.New(rand.NewPCG(8, 8)), 4)
	wants, drew, judged := []float64{.1, .5, .3, .8}, []float64{.4, .3, .2, .1}, []float64{.1, .2, .3, .4}
	truth := 0.
	for a := range wants {
		truth += judged[a] * wants[a]
	}
	r := rand.New(rand.NewPCG(4, 4))
	const n = 20000
	for _, q := range [][]float64{{0, 0, 0, 0}, {.9, .1, .2, .2}, wants} {
		sum, squares := 0., 0.
		for range n {
			u, first := r.Float64(), 0
			for ; first < 3 && u >= drew[first]; first++ {
				u -= drew[first]
			}
			reward := 0.
			if r.Float64() < wants[first] {
				reward = 1
			}
			values := slices.Clone(q)
			values[first] += min(1/drew[first], MaxWeight) * (reward - q[first])
			task := Task{Values: values, Reference: make([]float64, len(c.Candidates))}
			v := task.outcome(policy.LogSoftmax([]float64{math.Log(judged[0]), math.Log(judged[1]), math.Log(judged[2]), math.Log(judged[3])})).Reward
			sum += v / n
			squares += v * v / n
		}
		if se := math.Sqrt((squares - sum*sum) / n); math.Abs(sum-truth) > 4*se {
			t.Errorf("click model %v: %v, want %v (standard error %.4f)", q, sum, truth, se)
		}
	}
}

// linear is a learner of one weight, by plain gradient descent.
type linear struct {
	byCategory
	rate float64
	step int
	fail error
	seen []lm.Lesson
}

func (l *linear) Learn(_ context.Context, batch []lm.Lesson) (lm.Progress, error) {
	l.step++
	p := lm.Progress{Step: l.step, Rate: l.rate}
	slope := 0.
	for _, lesson := range batch {
		l.seen = append(l.seen, lm.Lesson{Prompt: lesson.Prompt})
		scores, _ := l.Rank(context.Background(), lesson.Prompt)
		gradient := make([]float64, len(scores))
		loss, err := lesson.Objective(scores, gradient)
		if err := errors.Join(err, l.fail); err != nil {
			return lm.Progress{}, err
		}
		p.Loss += loss / float64(len(batch))
		for i, letter := range lesson.Prompt.Letters {
			digits := lesson.Prompt.Content.Candidates[letter-'A'].Digits
			slope += gradient[i] * float64(digits[categoryDigit]) / float64(len(batch))
		}
	}
	p.Gradient = math.Abs(slope)
	l.byCategory -= byCategory(l.rate * slope)
	return p, nil
}

// A policy of one weight that cares too little for what users want learns to, and the more the less the divergence costs.
// What it is told of each step is true.
func TestImprove(t *testing.T) {
	decisions, rewards := log(t, 1500, .1, 5)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	made := tasks(t, rollouts, byCategory(.1), .2)
	before, err := MeasurePolicy(t.Context(), byCategory(.1), made)
	must(t, err)
	if before.KL > 1e-12 {
		t.Errorf("a model is %v nats from itself", before.KL)
	}
	var weights []float64
	for _, beta := range []float64{10, .3, .03} {
		l := &linear{byCategory: .1, rate: min(.3, .1/beta)}
		var told []Step
		must(t, Improve(t.Context(), l, made, ImproveOptions{Steps: 100, Batch: 1500, Beta: beta, Told: func(s Step) error { told = append(told, s); return nil }}))
		after, err := MeasurePolicy(t.Context(), l, made)
		must(t, err)
		weights = append(weights, float64(l.byCategory))
		if len(told) != 100 || math.Abs(told[0].Reward-before.Reward) > 1e-9 || math.Abs(told[0].Entropy-before.Entropy) > 1e-9 || told[99].Progress.Step != 100 {
			t.Errorf("told %d times, at first %+v, want %+v", len(told), told[0], before)
		}
		if after.Reward <= before.Reward || after.KL <= 0 || math.Abs(told[99].Loss-(beta*told[99].KL-told[99].Reward)) > 1e-9 {
			t.Errorf("beta %v: %+v after, %+v before, last step %+v", beta, after, before, told[99])
		}
	}
	if !(weights[0] > .1 && weights[0] < .2 && weights[1] > weights[0] && weights[2] > weights[1]) {
		t.Errorf("weights %v with less and less beta", weights)
	}
}

// Each epoch has every task once, and a run that goes on from any step sees what it would have seen.
func TestImproveGoesOnWhereItStood(t *testing.T) {
	decisions, rewards := log(t, 12, .1, 5)
	made := tasks(t, Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts, byCategory(.1), .2)
	run := func(from int) []lm.Lesson {
		l := &linear{}
		must(t, Improve(t.Context(), l, made, ImproveOptions{Steps: 9, Batch: 4, Beta: 1, Seed: 3, From: from}))
		return l.seen
	}
	whole := run(0)
	for epoch := range 3 {
		once := map[string]bool{}
		for _, l := range whole[epoch*12 : epoch*12+12] {
			once[l.Prompt.Text] = true
		}
		if len(once) != 12 {
			t.Errorf("epoch %d has %d of 12 tasks", epoch, len(once))
		}
	}
	for from := range 10 {
		if rest := run(from); len(rest) != 36-4*from || len(rest) > 0 && !cmp.Equal(whole[4*from:], rest) {
			t.Errorf("from step %d on: %d other lessons", from, len(rest))
		}
	}
}

func TestImproveFails(t *testing.T) {
	decisions, rewards := log(t, 3, .1, 5)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	made := tasks(t, rollouts, byCategory(.1), .2)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	ok := ImproveOptions{Steps: 2, Batch: 2, Beta: 1}
	broken := errors.New("it broke")
	for want, c := range map[string]struct {
		ctx    context.Context
		tasks  []Task
		change func(*ImproveOptions)
		fail   error
	}{
		"there are no tasks":         {t.Context(), nil, func(*ImproveOptions) {}, nil},
		"0 steps of 2":               {t.Context(), made, func(o *ImproveOptions) { o.Steps = 0 }, nil},
		"2 steps of 0":               {t.Context(), made, func(o *ImproveOptions) { o.Batch = 0 }, nil},
		"from step 3 on":             {t.Context(), made, func(o *ImproveOptions) { o.From = 3 }, nil},
		"beta is 0, must be above 0": {t.Context(), made, func(o *ImproveOptions) { o.Beta = 0 }, nil},
		"beta is NaN":                {t.Context(), made, func(o *ImproveOptions) { o.Beta = math.NaN() }, nil},
		"step 1: context canceled":   {gone, made, func(*ImproveOptions) {}, nil},
		"improve the policy: it bro": {t.Context(), made, func(*ImproveOptions) {}, broken},
		"enough":                     {t.Context(), made, func(o *ImproveOptions) { o.Told = func(Step) error { return errors.New("enough") } }, nil},
	} {
		o := ok
		c.change(&o)
		if err := Improve(c.ctx, &linear{fail: c.fail}, c.tasks, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	q := [][]float64{make([]float64, 6), make([]float64, 5), make([]float64, 6)}
	for what, f := range map[string]func(context.Context, Ranker) error{
		"prepare": func(ctx context.Context, r Ranker) error {
			_, err := Prepare(ctx, r, rollouts[:1], q, TaskOptions{})
			return err
		},
		"judge": func(ctx context.Context, r Ranker) error {
			_, _, err := Judge(ctx, r, rollouts[:1], q, nil)
			return err
		},
		"measure": func(ctx context.Context, r Ranker) error { _, err := MeasurePolicy(ctx, r, made); return err },
		"prepare2": func(ctx context.Context, _ Ranker) error {
			_, err := Prepare(ctx, byCategory(1), rollouts, q, TaskOptions{})
			return err
		},
		"judge2": func(ctx context.Context, _ Ranker) error {
			_, _, err := Judge(ctx, byCategory(1), rollouts, q, nil)
			return err
		},
	} {
		if err := f(t.Context(), &recorder{fail: broken, shares: func(iot.Prompt) []float64 { return nil }}); err == nil {
			t.Errorf("%s: no error", what)
		}
		if err := f(gone, byCategory(1)); err == nil {
			t.Errorf("%s: no error although nobody waits", what)
		}
	}
}

// The gate's samples are the logged policy's own where the logged model is judged, and another's where another is.
func TestJudge(t *testing.T) {
	decisions, rewards := log(t, 60, .3, 6)
	rollouts := Join(decisions, rewards, JoinOptions{Model: toyModel}).Rollouts
	q := make([][]float64, len(rollouts))
	for i := range q {
		q[i] = []float64{.1, .2, .3, .4, .5, .6}
	}
	same, still, err := Judge(t.Context(), byCategory(.3), rollouts, q, nil)
	must(t, err)
	other, moved, err := Judge(t.Context(), byCategory(.9), rollouts, q, nil)
	must(t, err)
	changed := 0
	for i, s := range same {
		r := rollouts[i]
		if math.Abs(s.Target-s.Logged) > 1e-9 || math.Abs(s.V-s.VLogged) > 1e-9 || s.User != r.Decision.UserID || s.Reward != r.Reward || s.Q != q[i][r.First] ||
			s.Logged != r.Decision.Slate[0].Probability {
			t.Errorf("rollout %d: %+v", i, s)
		}
		o := other[i]
		if o.Logged != s.Logged || o.VLogged != s.VLogged {
			t.Errorf("rollout %d: the logged policy differs by what is judged", i)
		}
		if math.Abs(o.Target-s.Target) > .01 {
			changed++
		}
	}
	if changed < 30 {
		t.Errorf("another model draws as this one in all but %d of 60", changed)
	}
	// A category that counts for more makes nearly the same order, and surer.
	if still.Reordered != 0 || math.Abs(still.EntropyBefore-still.EntropyAfter) > 1e-9 || moved.EntropyBefore != still.EntropyBefore ||
		moved.Reordered > .2 || moved.EntropyAfter > moved.EntropyBefore-.01 {
		t.Errorf("the same model changes %+v, a surer one %+v", still, moved)
	}
	_, turned, err := Judge(t.Context(), byCategory(-.3), rollouts, q, nil)
	must(t, err)
	if turned.Reordered < .9 {
		t.Errorf("the opposite order: %+v", turned)
	}
}
