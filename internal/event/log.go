package event

import "fmt"

// Span is a contiguous stretch of one Kafka partition: the offsets from Start up to, not including, End. First is the
// oldest offset that the partition still held when it was last asked; a reader that knows nothing begins there.
type Span struct {
	Topic     string
	Partition int
	First     int64
	Start     int64
	End       int64
}

func (s Span) String() string {
	return fmt.Sprintf("%s/%d@%d-%d", s.Topic, s.Partition, s.Start, s.End)
}

// BehindError says that the store holds less of a partition than its reader assumed: writes that were acknowledged are
// gone (the store was restored, flushed or failed over). The reader has to go back to Lowest.
type BehindError struct {
	Topic     string
	Partition int
	Lowest    int64 // everything below it is applied
	Assumed   int64 // what the reader took as applied
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("%s/%d: the store holds offsets up to %d, %d was assumed: it lost writes", e.Topic, e.Partition, e.Lowest, e.Assumed)
}
