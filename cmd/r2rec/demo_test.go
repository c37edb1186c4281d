package main

import (
	"encoding/csv"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/web"
)

// writeSlice writes what some users of the bundled data did, as a data set.
func writeSlice(t *testing.T, users int) (dir string) {
	t.Helper()
	all, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	write := func(name string, rows [][]string) {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = csv.NewWriter(f).WriteAll(rows)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	events, items := [][]string{{"user_id", "item_id", "rating", "timestamp"}}, [][]string{{"item_id", "title", "categories"}}
	for in, err := range all.Interactions() {
		if n, _ := strconv.Atoi(in.UserID); err == nil && n <= users {
			events = append(events, []string{in.UserID, in.ItemID, fmt.Sprint(*in.Value), strconv.FormatInt(int64(in.Timestamp)/1000, 10)})
		}
	}
	for it, err := range all.Items() {
		if err == nil {
			items = append(items, []string{it.ItemID, it.Title, strings.Join(it.Categories, "|")})
		}
	}
	write("events.csv", events)
	write("items.csv", items)
	return dir
}

// Who sets a token for servers has one for the demo, too.
func TestDemoAsksForTheToken(t *testing.T) {
	t.Setenv("R2REC_TOKEN", "sesame")
	t.Setenv("R2REC_ALLOWED_HOSTS", "") // set and empty: none
	p := &place{T: t}
	addr := p.freeAddress()
	p.start("demo", "--listen", addr, "--data", writeSlice(t, 5), "--live", "1", "--visits", "0", "--no-model", "--log-level", "error")
	s := site{p, "http://" + addr}
	p.eventually("nobody answers", func() (bool, string) { status, body := s.ask("GET", "/v1/users", ""); return status != 0, body })
	for path, want := range map[string]int{"/v1/users": 401, "/metrics": 401, "/": 200} {
		if status, body := s.ask("GET", path, ""); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
}

// The demo leaves out what import leaves out, in the history and in what is replayed live.
func TestDemoLeavesOutWhatBreaksTheContract(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	events := "user_id,item_id,rating,timestamp\nu,1,5,1000000000\n,1,5,1000000001\nv,1,5,1000000002\nu,2,5,1000000003\n,2,5,1000000004\nlast,2,5,1000000005\n"
	for name, content := range map[string]string{"events.csv": events, "items.csv": "item_id,title,categories\n1,One,\n,None,\n2,Two,\n"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &place{T: t}
	addr := p.freeAddress()
	p.start("demo", "--listen", addr, "--data", data, "--live", "2", "--rate", "1000", "--visits", "0", "--no-model", "--log-level", "error")
	s := site{p, "http://" + addr}
	p.eventually("the last event is not replayed", func() (bool, string) {
		_, body := s.ask("GET", "/v1/users/last/history", "")
		return strings.Contains(body, `"item_id":"2"`), body
	})
}

// The demo shows simulated users, labelled as such, whose clicks become rewards, from which a round learns until its gate
// has an answer, whatever it is. It leaves nothing behind.
func TestDemoGoesRoundTheLoop(t *testing.T) {
	data := writeSlice(t, 80)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Run("", func(t *testing.T) { // ends before temp is looked at
		p := &place{T: t}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		ln.Close()
		p.start("demo", "--listen", addr, "--data", data, "--live", "100", "--visits", "100", "--visit-limit", "600", "--round-every", "120",
			"--attribution-window", "2s", "--log-level", "error")
		s := site{p, "http://" + addr}
		var l web.LoopState
		read := func() string {
			status, body := s.ask("GET", "/v1/loop", "")
			if l = (web.LoopState{}); status == http.StatusOK {
				p.decode(body, &l)
			}
			return body
		}
		p.eventually("nobody visits", func() (bool, string) { body := read(); return l.Simulation != nil && l.Simulation.Visits > 0, body })
		p.eventually("no visit is rewarded", func() (bool, string) { body := read(); return l.Rewards.Simulated > 0, body })
		p.eventually("no round begins", func() (bool, string) { body := read(); return l.Rounds.Running != nil || len(l.Rounds.Ended) > 0, body })
		p.eventually("no round ends", func() (bool, string) { body := read(); return len(l.Rounds.Ended) > 0, body })
		if l.Simulation == nil || l.Simulation.Rule != visitRule || l.Simulation.Visits < 120 || l.Simulation.Visits > 600 || l.Simulation.Clicks == 0 {
			t.Errorf("%+v, want simulated visits and the rule by which they click", l.Simulation)
		}
		if l.Rewards.Simulated < 120 || l.Rewards.ByDecision == 0 || len(l.Arms) == 0 || !strings.Contains(l.Note, "faster here than in earnest") {
			t.Errorf("%+v, %+v, %q", l.Rewards, l.Arms, l.Note)
		}
		r := l.Rounds.Ended[0]
		if !slices.Contains([]string{"promoted", "refused", "underpowered"}, r.Verdict) || r.Reason == "" || r.Gate == nil || r.Learned < 50 || r.Held < 50 || len(r.Reward) == 0 {
			t.Errorf("%+v, want a gate's verdict", r)
		}
	})
	left, err := os.ReadDir(temp)
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left", err, left)
	}
}
