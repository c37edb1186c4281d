package ope

import (
	"errors"
	"fmt"
	"math"
)

// Arm is one side of a roll-out.
type Arm int

// A user belongs to one arm, by a hash: the policy that served before, or the new one.
const (
	Present Arm = iota
	Candidate
)

func (a Arm) String() string {
	if a == Candidate {
		return "candidate"
	}
	return "present"
}

// SequentialOptions says what a roll-out has to show. Share, Decisions and Variance need not be right: they say where the
// interval is narrowest, and it holds wherever they are.
type SequentialOptions struct {
	Alpha     float64 // share of wrong answers over all looks together, half to each side; 0: DefaultAlpha
	Tolerance float64 // reward a decision by which the candidate may be worse and go forward all the same; 0: it has to be better
	MinUsers  int     // of each arm before anything is decided; 0: MinUsers
	Share     float64 // expected, of the decisions that the candidate makes; 0: .1
	Decisions int     // expected, of both arms together when it is decided; 0: 10,000
	Variance  float64 // expected, of a reward; 0: .2
}

// Direction is a sequential test's answer.
type Direction string

// Forward: the candidate is better, or not worse by more than Tolerance. Back: it is worse. Continue: neither is known.
const (
	Forward  Direction = "forward"
	Back     Direction = "back"
	Continue Direction = "continue"
)

// Look is what a sequential test says at one moment.
type Look struct {
	Direction Direction
	Reason    string // for people, with figures
	Estimate  float64
	Low, High float64 // valid at every look together; 0 where Known is not set
	Known     bool    // there are enough users for an interval
	Users     [2]int  // by Arm
	Decisions [2]int
	Mean      [2]float64 // reward a decision
}

// Sequential compares the rewards of two arms while they come in, and may be asked after every one of them.
//
// With R and N the rewards and decisions of an arm, it follows D = (N_p R_c - N_c R_p)/N: the difference of the mean
// rewards, times N_p N_c/N. If both means are μ, D is about a sum over users of c (R_u - μ N_u), where c is the other
// arm's share of the decisions, and so V = Σ c² (R_u - mean N_u)² is its variance by users: what one user does may be as
// alike as it wants. An interval for the difference is ±b(V) N/(N_p N_c) around it, with b the one-sided normal-mixture
// boundary, once a side, which a Brownian motion exceeds at any time with a chance of at most alpha/2 (Robbins 1970;
// Howard, Ramdas, McAuliffe and Sekhon 2021, section 3.2):
//
//	b(v) = √(2 (v + ρ) log(1 + √((v + ρ)/ρ)/alpha))
//
// With independent users and many of them D is a Gaussian process (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021
// for the strong approximation). It has no independent increments, as users come back; but as long as what a user did
// predicts what the same user does next (a covariance of 0 or more), the covariance of D at two times is at least that of
// a Brownian motion at the times V, and by Slepian's inequality (1962) it exceeds any boundary at most as often.
//
// It holds one number of decisions and one sum of rewards a user, nothing else that grows; the same rewards in any order
// give the same state, up to rounding. It is not safe for concurrent use.
type Sequential struct {
	o     SequentialOptions
	rho   float64
	users map[string]*tally
	arms  [2]side
}

// tally is one user.
type tally struct {
	arm     Arm
	n       int
	rewards float64
}

// side sums over the users of an arm.
type side struct {
	users              int
	n                  int
	rewards            float64
	nn, rn, rewardsSqr float64 // Σ N_u², Σ R_u N_u, Σ R_u²
}

// ErrBothArms says that a user was seen in one arm and has a reward from the other.
var ErrBothArms = errors.New("the user is in the other arm")

// NewSequential begins a test.
func NewSequential(o SequentialOptions) (*Sequential, error) {
	for _, f := range []struct {
		value    *float64
		standard float64
	}{{&o.Alpha, DefaultAlpha}, {&o.Share, .1}, {&o.Variance, .2}} {
		if *f.value == 0 {
			*f.value = f.standard
		}
	}
	if o.MinUsers == 0 {
		o.MinUsers = MinUsers
	}
	if o.Decisions == 0 {
		o.Decisions = 10_000
	}
	switch {
	case !(o.Alpha > 0 && o.Alpha < .5):
		return nil, fmt.Errorf("sequential test: alpha is %v: want a share above 0 and below .5", o.Alpha)
	case !(o.Tolerance >= 0) || math.IsInf(o.Tolerance, 0):
		return nil, fmt.Errorf("sequential test: tolerance is %v: want a finite number, 0 or more", o.Tolerance)
	case o.MinUsers < 2:
		return nil, fmt.Errorf("sequential test: min users is %d: want 2 or more", o.MinUsers)
	case !(o.Share > 0 && o.Share < 1):
		return nil, fmt.Errorf("sequential test: share is %v: want one above 0 and below 1", o.Share)
	case o.Decisions < 1:
		return nil, fmt.Errorf("sequential test: decisions is %d: want 1 or more", o.Decisions)
	case !(o.Variance > 0) || math.IsInf(o.Variance, 0):
		return nil, fmt.Errorf("sequential test: variance is %v: want a finite number above 0", o.Variance)
	}
	// About the ρ by which the boundary is lowest at the variance v (Howard et al., section 3.5).
	v := float64(o.Decisions) * o.Share * (1 - o.Share) * o.Variance
	l := 2 * math.Log(1/o.Alpha)
	return &Sequential{o: o, rho: v / (l + math.Log1p(l)), users: map[string]*tally{}}, nil
}

// Add counts the reward of one decision. Rewards that arrive twice are to be counted once, by the caller. Errors, after
// which nothing has changed: a reward that is no finite number, an empty user, ErrBothArms.
func (s *Sequential) Add(arm Arm, user string, reward float64) error {
	switch {
	case arm != Present && arm != Candidate:
		return fmt.Errorf("sequential test: arm is %d: want Present or Candidate", arm)
	case user == "":
		return errors.New("sequential test: the user is empty: want an id, users are what is compared")
	case math.IsNaN(reward) || math.IsInf(reward, 0):
		return fmt.Errorf("sequential test: reward of user %q is %v: want a finite number", user, reward)
	}
	t := s.users[user]
	if t == nil {
		t = &tally{arm: arm}
		s.users[user] = t
		s.arms[arm].users++
	}
	if t.arm != arm {
		return fmt.Errorf("sequential test: reward of user %q from %s: %w", user, arm, ErrBothArms)
	}
	a := &s.arms[arm]
	a.n++
	a.rewards += reward
	a.nn += float64(2*t.n + 1)
	a.rn += t.rewards + reward*float64(t.n+1)
	a.rewardsSqr += reward * (2*t.rewards + reward)
	t.n++
	t.rewards += reward
	return nil
}

// spread is Σ_u (R_u - mean N_u)², with the usual correction for the mean being estimated.
func (a *side) spread(mean float64) float64 {
	v := a.rewardsSqr - 2*mean*a.rn + mean*mean*a.nn
	return max(0, v) * float64(a.users) / float64(a.users-1)
}

// Decide says where the roll-out stands.
func (s *Sequential) Decide() Look {
	l := Look{Direction: Continue}
	for i, a := range s.arms {
		l.Users[i], l.Decisions[i] = a.users, a.n
		if a.n > 0 {
			l.Mean[i] = a.rewards / float64(a.n)
		}
	}
	l.Estimate = l.Mean[Candidate] - l.Mean[Present]
	if min(l.Users[0], l.Users[1]) < s.o.MinUsers {
		l.Reason = fmt.Sprintf("%d and %d users (present, candidate): want %d of each", l.Users[0], l.Users[1], s.o.MinUsers)
		return l
	}
	n := [2]float64{float64(l.Decisions[0]), float64(l.Decisions[1])}
	all := n[0] + n[1]
	var v float64
	for i := range s.arms {
		other := n[1-i] / all
		v += other * other * s.arms[i].spread(l.Mean[i])
	}
	v += s.rho
	width := math.Sqrt(2*v*math.Log1p(math.Sqrt(v/s.rho)/s.o.Alpha)) * all / (n[0] * n[1])
	l.Low, l.High, l.Known = l.Estimate-width, l.Estimate+width, true
	figures := fmt.Sprintf("%+.4f a decision (from %+.4f to %+.4f), by %d against %d decisions of %d against %d users",
		l.Estimate, l.Low, l.High, l.Decisions[Candidate], l.Decisions[Present], l.Users[Candidate], l.Users[Present])
	switch {
	case l.High < 0:
		l.Direction, l.Reason = Back, "it is worse: "+figures
	case l.Low > 0:
		l.Direction, l.Reason = Forward, "it is better: "+figures
	case l.Low > -s.o.Tolerance:
		l.Direction, l.Reason = Forward, fmt.Sprintf("it is not worse by more than %g: %s", s.o.Tolerance, figures)
	default:
		l.Reason = "not known yet: " + figures
	}
	return l
}
