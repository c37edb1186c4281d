package event

// CheckUserID tells whether id may be a user id; the error is an *Error.
func CheckUserID(id string) error { return asError(checkRequiredID("user_id", id, maxID)) }

// CheckK tells whether k items may be asked for; the error is an *Error.
func CheckK(k, most int) error { return asError(checkInt("k", k, 1, most)) }
