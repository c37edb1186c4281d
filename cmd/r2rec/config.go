package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
)

// configuration reads flags from a JSON object. A key is a flag's name as it stands on the command line; half_life and
// halfLife are half-life, too. A key that is no flag of any command is an error: a setting that is silently left out can lose
// more than a start.
func configuration(r io.Reader) (kong.Resolver, error) {
	c := config{}
	raw := map[string]any{}
	if err := json.NewDecoder(r).Decode(&raw); err != nil {
		return nil, fmt.Errorf("--config: want a JSON object of flags: %w", err)
	}
	for key, value := range raw {
		c[flagName(key)] = value
	}
	return c, nil
}

// config has values by the names of flags.
type config map[string]any

// Resolve implements kong.Resolver, which is asked for all flags that the command line does not have: the environment goes
// before the file. Flags with the tag explicit say where something is filled or emptied for a measurement: a file that processes
// in production share must not lead it there.
func (c config) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Tag.Has("explicit") {
		return nil, nil
	}
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	value := c[flag.Name]
	if number, ok := value.(float64); ok && flag.Target.Type() == reflect.TypeFor[time.Duration]() {
		return nil, fmt.Errorf(`--config has %v, without a unit: want a time such as "20s" or "36h"`, number)
	}
	return value, nil
}

// Validate implements kong.Resolver: it finds keys that are no flag's.
func (c config) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(app.Node)
	var unknown []string
	for name := range c {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("--config: no command has a flag --%s; r2rec COMMAND --help lists them", strings.Join(unknown, ", --"))
}

// flagName is the name of the flag that a key means.
func flagName(key string) string {
	var b strings.Builder
	for i, r := range strings.ReplaceAll(key, "_", "-") {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
