package adapters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// ProjectionKey follows the prefix in the key of the projection.
const ProjectionKey = "adapters"

// newest is how many entries a projection has: enough to show, and bounded.
const newest = 20

// Projection is a copy of the log's state in Redis, for who only wants to look; the log alone decides. Whoever follows
// the log writes it. Its entries are the newest 20.
type Projection struct {
	Client redis.UniversalClient
	Prefix string
}

// forwards sets the key unless what it holds is of a later offset. What is no projection is replaced.
var forwards = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then
  local ok, doc = pcall(cjson.decode, held)
  if ok and type(doc) == 'table' and type(doc.offset) == 'number' and doc.offset > tonumber(ARGV[1]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

// Write puts the state there unless a later one is there already, and tells whether it did.
func (p Projection) Write(ctx context.Context, s State) (bool, error) {
	s.Entries = s.Entries[max(0, len(s.Entries)-newest):]
	raw, err := json.Marshal(s)
	if err != nil {
		return false, fmt.Errorf("project the adapters of offset %d: %w", s.Offset, err)
	}
	written, err := forwards.Run(ctx, p.Client, []string{p.key()}, s.Offset, raw).Bool()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("project the adapters of offset %d to %s: %w", s.Offset, p.key(), err)
	}
	return written, nil
}

// Read is what was projected last; the zero state where nothing was.
func (p Projection) Read(ctx context.Context) (s State, err error) {
	raw, err := p.Client.Get(ctx, p.key()).Bytes()
	if errors.Is(err, redis.Nil) {
		return State{}, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the projection of the adapters at %s: %w", p.key(), err)
	}
	return s, nil
}

func (p Projection) key() string { return p.Prefix + ProjectionKey }
