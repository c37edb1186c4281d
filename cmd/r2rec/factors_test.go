package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
)

// ratingsInto puts the first ratings of MovieLens into the graph of a Redis.
func ratingsInto(t *testing.T, graph *graphcache.Generations, n int) (last event.Interaction) {
	t.Helper()
	d, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	var batch []event.Interaction
	for in, err := range d.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, in); len(batch) == n {
			break
		}
	}
	c, err := graph.Current(t.Context())
	if err == nil {
		err = c.Join(t.Context(), batch)
	}
	if err != nil {
		t.Fatal(err)
	}
	return batch[n-1]
}

// latent is the evidence by latent factors of an item that the user has.
func latent(t *testing.T, graph *graphcache.Generations, of event.Interaction) float64 {
	t.Helper()
	s, err := graph.Snapshot(t.Context(), graphcache.Query{User: of.UserID, Items: []string{of.ItemID}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Context.Candidates[0].Evidence.Latent[0]
}

// r2rec factors learns from the graph, and a process that serves takes what it learned without a restart, again and again.
func TestFactorsReachServers(t *testing.T) {
	t.Parallel()
	embeddedtest.EachRedis(t, func(t *testing.T, o *redis.UniversalOptions) {
		rdb := redis.NewUniversalClient(o)
		defer rdb.Close()
		p := &process{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard, log: slog.New(slog.DiscardHandler)}
		graph, err := redisFlags{Prefix: "r2:", Positive: 4, Negative: 2, HalfLife: time.Hour}.graph(rdb, p)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"factors", "--redis", redisURL(o), "--dimensions", "4", "--sweeps", "3"}
		var errs bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "the graph in redis is empty. Apply events first (r2rec consume), or look at --redis and --prefix") {
			t.Errorf("of an empty graph: exit code %d, %s", code, errs.String())
		}
		last := ratingsInto(t, graph, 3000)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go keepFresh(ctx, p, graph, 20*time.Millisecond)
		if got := latent(t, graph, last); got != 0 {
			t.Errorf("before anything was learned the evidence is %v", got)
		}

		out := output(t, args...)
		for _, want := range []string{"edges of 51 users", "4 numbers each", "servers take them within seconds"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		await := func(what string, ok func() bool) {
			t.Helper()
			for begun := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
				if time.Since(begun) > time.Minute {
					t.Fatal(what)
				}
			}
		}
		await("the server does not take the factors", func() bool { return latent(t, graph, last) > 0 })
		first := latent(t, graph, last)

		// It stays, and says each time what it did.
		staying, end := context.WithCancel(t.Context())
		told, tell := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			ended <- run(staying, append(args, "--every", "1ms", "--seed", "7", "--json"), tell, io.Discard)
			tell.Close()
		}()
		lines := json.NewDecoder(told)
		for range 3 {
			var r learnedFactors
			if err := lines.Decode(&r); err != nil {
				t.Fatal(err)
			}
			if r.Edges != 3000 || r.Users != 51 || r.Dimensions != 4 || r.Seed != 7 || r.Loss <= 0 || r.Loss >= 1 {
				t.Errorf("%+v", r)
			}
		}
		end()
		go io.Copy(io.Discard, told)
		if code := <-ended; code != 0 {
			t.Errorf("stopped, it ends with %d", code)
		}
		await("the server keeps the former factors", func() bool { return latent(t, graph, last) != first })
	})
}

func TestFactorsRefusesWrongFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"--dimensions 9999": "option Dimensions is 9999: give 1 to 256",
		"--sweeps=-1":       "option Sweeps is -1",
		"--penalty 1e9":     "option Penalty is 1e+09: give a number from 0.001 to 1e6",
		"--confidence=-3":   "option Confidence is -3",
		"--every=-1s":       "--every -1s: want a time above 0, or 0 to learn once",
	} {
		var errs bytes.Buffer
		if code := run(t.Context(), append([]string{"factors"}, strings.Fields(flags)...), io.Discard, &errs); code != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q, want 2 and %q", flags, code, errs.String(), want)
		}
	}
}

// The weights that travel with the program rank with latent factors, and without.
func TestTheDefaultWeightsKnowLatentFactors(t *testing.T) {
	likely := event.Evidence{Popularity: 5, Latent: [2]float64{.9, .9}}
	less := event.Evidence{Popularity: 5, Latent: [2]float64{.1, .1}}
	s := fusion.Default().Scores(fusion.List{Evidence: []event.Evidence{likely, less}, Likes: 10})
	if !(s[0] > s[1]+.1) {
		t.Errorf("%v: what fits better by latent factors is not ahead", s)
	}
}
