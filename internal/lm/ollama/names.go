package ollama

import (
	"fmt"
	"regexp"
	"strconv"
)

// digits of a digest stand in a model's name.
const digits = 12

// names makes and reads the names of one base's models. They hold the beginnings of the digests of what a model is made
// of, so that the same base and adapter always have the same name; for which readout and prompt an adapter is stands in its
// file, and so in its digest.
//
//	r2rec-d00dfeedd00d:copy1                a copy of the base
//	r2rec-d00dfeedd00d-0123456789ab:layer1  the adapter on that copy
//	r2rec-d00dfeedd00d-0123456789ab:merged  the adapter merged into the base's weights
type names struct {
	base    string
	pattern *regexp.Regexp
}

const (
	prefixForm = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}`                                              // what Ollama takes at the beginning of a name
	kindForm   = `(?::copy([1-9][0-9]{0,3})|-([0-9a-f]{12}):(?:layer([1-9][0-9]{0,3})|merged))$` // what follows the base
)

var (
	validPrefix = regexp.MustCompile(`^` + prefixForm + `$`)
	madeForm    = regexp.MustCompile(`^` + prefixForm + `-[0-9a-f]{12}` + kindForm)
)

// Made tells whether a model's name is of those that an Installer gives, whatever its base and prefix are. Such models come
// and go with the program that made them, and answer in no template.
func Made(name string) bool { return madeForm.MatchString(name) }

func newNames(prefix, digest string) names {
	base := prefix + "-" + digest[:digits]
	return names{base, regexp.MustCompile(`^` + regexp.QuoteMeta(base) + kindForm)}
}

// copyOf is the name of a copy of the base; the first is 1.
func (n names) copyOf(copy int) string { return fmt.Sprintf("%s:copy%d", n.base, copy) }

func (n names) layer(adapter string, copy int) string {
	return fmt.Sprintf("%s-%s:layer%d", n.base, adapter[:digits], copy)
}

func (n names) merged(adapter string) string {
	return fmt.Sprintf("%s-%s:merged", n.base, adapter[:digits])
}

// parse tells how a model's adapter begins ("": it has none), and on which copy of the base it lies (0: on none, it is
// merged). ok is false for what is no model of this base.
func (n names) parse(name string) (adapter string, copy int, ok bool) {
	m := n.pattern.FindStringSubmatch(name)
	if m == nil {
		return "", 0, false
	}
	copy, _ = strconv.Atoi(m[1] + m[3]) // of neither: 0
	return m[2], copy, true
}
