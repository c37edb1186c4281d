package consumer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
)

// The same numbers of both topics go to the same member, in whatever order a broker lists members and partitions.
func TestCopartitionSortsWhatTheBrokerLists(t *testing.T) {
	both := []string{"decisions", "interactions"}
	members := []kafka.GroupMember{{ID: "b", Topics: both}, {ID: "a", Topics: both}}
	got := copartition{}.AssignGroups(members, []kafka.Partition{
		{Topic: "decisions", ID: 2}, {Topic: "interactions", ID: 0}, {Topic: "decisions", ID: 0}, {Topic: "interactions", ID: 1},
		{Topic: "decisions", ID: 1}, {Topic: "interactions", ID: 2},
	})
	want := kafka.GroupMemberAssignments{
		"a": {"decisions": {0}, "interactions": {0}},
		"b": {"decisions": {1, 2}, "interactions": {1, 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
