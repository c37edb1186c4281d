package ope

import "hash/fnv"

// Fold gives the fold of a user, from 0 to folds - 1, by a hash of the id: a model of the reward that is to judge the users
// of a fold is fitted on those of the others (cross-fitting, Chernozhukov et al. 2018), so that it never predicts what it
// has seen. The same user is in the same fold in every process; folds below 2 put all users into fold 0.
func Fold(user string, folds int) int {
	if folds < 2 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte("cross-fitting\x00"))
	h.Write([]byte(user))
	x := h.Sum64() // FNV leaves its high bits poorly mixed for short input: finish as in SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int((x ^ x>>31) % uint64(folds))
}
