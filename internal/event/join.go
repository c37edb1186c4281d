package event

// JoinState is what a store holds of a join of clicks to decisions, for some users of one partition.
type JoinState struct {
	Version   int64           // grows with every change; 0: the store holds nothing of the partition
	Head      []byte          // what was last committed for the partition as a whole
	Users     []JoinUser      // those asked for, and those that are due; who has no state is left out
	More      bool            // more users are due than were read
	Forgotten map[string]Time // those of the users asked for and read who are to be forgotten, and before when
}

// JoinUser is a user's part of a join. The store does not look into State; an empty one deletes the user's part.
type JoinUser struct {
	UserID string
	State  []byte
	Due    Time // the event time from which on it wants to be looked at
}
