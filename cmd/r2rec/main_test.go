package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// asProgram is the variable that makes the tests' own executable the program: as a process of its own it can be killed.
const asProgram = "R2REC_TEST_AS_PROGRAM"

// TestMain takes the settings of whoever runs the tests out of the environment: a command under test has those that its
// test gives it. The program has those that it was started with.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "R2REC_") && !strings.HasPrefix(name, "R2REC_TEST_") && name != embeddedtest.EnvRequire {
			os.Unsetenv(name)
		}
	}
	joinerTurn = time.Minute
	os.Exit(m.Run())
}

// Stopped by a signal, what is meant to end by itself has not done what it was asked for, and must not say so: 0 would mean
// promoted. What runs until it is stopped has.
func TestStoppedIsNotDone(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for args, want := range map[string]int{
		"train --once":                    exitStopped,
		"train export out":                exitStopped,
		"adapters list --adapters mem://": exitStopped,
		"factors":                         exitStopped,
		"train --every 1h":                0,
		"factors --every 1h":              0,
		"consume":                         0,
		"serve --listen 127.0.0.1:0":      0,
	} {
		var out, errs bytes.Buffer
		if code := run(ctx, strings.Fields(args), &out, &errs); code != want || errs.Len() > 0 {
			t.Errorf("r2rec %s: exit code %d, want %d: %s", args, code, want, errs.String())
		}
	}
}
