package main

import (
	"io"

	"github.com/alecthomas/kong"
)

// explicitly reads a configuration that keeps its hands off flags with the tag explicit: those say where something is filled
// or emptied for a measurement, and a file that processes in production share must not lead it there.
func explicitly(read kong.ConfigurationLoader) kong.ConfigurationLoader {
	return func(r io.Reader) (kong.Resolver, error) {
		all, err := read(r)
		if err != nil {
			return nil, err
		}
		return exceptExplicit{all}, nil
	}
}

type exceptExplicit struct{ kong.Resolver }

// Resolve implements kong.Resolver.
func (e exceptExplicit) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Tag.Has("explicit") {
		return nil, nil
	}
	return e.Resolver.Resolve(ctx, parent, flag)
}
