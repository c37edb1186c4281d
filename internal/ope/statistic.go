package ope

import "math"

// The columns that are summed for each user.
const (
	count   = iota // 1
	weights        // w
	earned         // w r
	rewards        // r
	direct         // V
	robust         // V + w (r - q)
	directDifference
	robustDifference // V - V_logging + (w - 1)(r - q)
	columns
)

// term is a ratio of two columns' totals, counted with a sign.
type term struct {
	over, under int
	sign        float64
}

// statistic is a sum of ratios of totals. Every estimator is one. It does not change when all totals are multiplied, so
// that its gradient g at the totals T has g·T = 0, and Σ_u (g·x_u)² over the users' sums x_u is its variance by users, to
// first order (the delta method; the sandwich estimator of clustered data, Liang and Zeger 1986).
type statistic []term

var (
	loggedValue     = statistic{{rewards, count, 1}}
	dmValue         = statistic{{direct, count, 1}}
	ipsValue        = statistic{{earned, count, 1}}
	snipsValue      = statistic{{earned, weights, 1}}
	drValue         = statistic{{robust, count, 1}}
	dmDifference    = statistic{{directDifference, count, 1}}
	ipsDifference   = statistic{{earned, count, 1}, {rewards, count, -1}}
	snipsDifference = statistic{{earned, weights, 1}, {rewards, count, -1}}
	drDifference    = statistic{{robustDifference, count, 1}}
	meanWeight      = statistic{{weights, count, 1}}
)

// users are the samples summed by user: a row of columns each, in the order in which users first come.
type users struct {
	rows  []float64
	n     int
	total [columns]float64
}

func sumUsers(samples []Sample, clip float64) *users {
	u := &users{}
	number := make(map[string]int)
	for _, s := range samples {
		at, ok := number[s.User]
		if !ok {
			at = u.n
			number[s.User] = at
			u.rows = append(u.rows, make([]float64, columns)...)
			u.n++
		}
		w := s.weight(clip)
		row := u.rows[at*columns:]
		row[count]++
		row[weights] += w
		row[earned] += w * s.Reward
		row[rewards] += s.Reward
		row[direct] += s.V
		row[robust] += s.V + w*(s.Reward-s.Q)
		row[directDifference] += s.V - s.VLogged
		row[robustDifference] += s.V - s.VLogged + (w-1)*(s.Reward-s.Q)
	}
	for i, v := range u.rows {
		u.total[i%columns] += v
	}
	return u
}

// moments are what a statistic and its variance are computed from, for any multiset of users: for each user the sums x of
// the columns that it reads, and the upper triangle of x xᵀ.
type moments struct {
	s      statistic // over the columns below
	d      int       // columns
	stride int       // d and the triangle
	rows   []float64
}

func newMoments(u *users, s statistic) *moments {
	m := &moments{s: make(statistic, len(s))}
	var read []int
	place := func(column int) int {
		for i, c := range read {
			if c == column {
				return i
			}
		}
		read = append(read, column)
		return len(read) - 1
	}
	for i, t := range s {
		m.s[i] = term{place(t.over), place(t.under), t.sign}
	}
	m.d = len(read)
	m.stride = m.d + m.d*(m.d+1)/2
	m.rows = make([]float64, 0, u.n*m.stride)
	for i := range u.n {
		row := u.rows[i*columns:]
		for _, c := range read {
			m.rows = append(m.rows, row[c])
		}
		for a := range read {
			for b := a; b < m.d; b++ {
				m.rows = append(m.rows, row[read[a]]*row[read[b]])
			}
		}
	}
	return m
}

// all are the sums over every user.
func (m *moments) all() []float64 {
	sums := make([]float64, m.stride)
	for i, v := range m.rows {
		sums[i%m.stride] += v
	}
	return sums
}

// of are the sums over drawn users.
func (m *moments) of(drawn []int32, sums []float64) {
	clear(sums)
	for _, i := range drawn {
		row := m.rows[int(i)*m.stride : (int(i)+1)*m.stride]
		for j, v := range row {
			sums[j] += v
		}
	}
}

// estimate is the statistic of n users' sums and its standard error by users; NaN of fewer than two. A ratio to a total of
// 0 counts as 0.
func (m *moments) estimate(sums []float64, n int) (value, se float64) {
	var gradient [4]float64
	for _, t := range m.s {
		under := sums[t.under]
		if under == 0 {
			continue
		}
		ratio := sums[t.over] / under
		value += t.sign * ratio
		gradient[t.over] += t.sign / under
		gradient[t.under] -= t.sign * ratio / under
	}
	if n < 2 {
		return value, math.NaN()
	}
	var square float64
	at := m.d
	for a := range m.d {
		for b := a; b < m.d; b++ {
			v := gradient[a] * gradient[b] * sums[at]
			if a != b {
				v *= 2
			}
			square += v
			at++
		}
	}
	return value, math.Sqrt(max(0, square) * float64(n) / float64(n-1))
}
