package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
)

// profileFlags say where a benchmark notes how it spent its time.
type profileFlags struct {
	CPUProfile string `name:"cpu-profile" help:"File to write where this process spent its time while it was measured, for go tool pprof." type:"path" placeholder:"FILE" group:"Results"`
}

// startProfile notes in a file where the process spends its time until stop is called; "": nowhere.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("--cpu-profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
