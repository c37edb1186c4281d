package learn

// Schedule gives the share of the full rate of learning for a step, which are counted from 0.
type Schedule func(step int) float64

// Constant is the full rate at every step.
func Constant(int) float64 { return 1 }

// Trapezoid warms up linearly over the first steps, stays at the full rate up to the share flat of all steps, and falls
// linearly to the share last at the end.
func Trapezoid(steps, warmup int, flat, last float64) Schedule {
	return func(step int) float64 {
		share := 1.
		if warmup > 0 {
			share = min(1, float64(step+1)/float64(warmup))
		}
		from := flat * float64(steps)
		if s := float64(step); s > from && float64(steps) > from {
			share = min(share, 1-(1-last)*min(1, (s-from)/(float64(steps)-from)))
		}
		return share
	}
}
