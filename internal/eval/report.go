package eval

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/r2rec/r2rec/internal/event"
)

// Ranked is the ranks that somebody gave to the cases: a ranker of this run, or a key of a file.
type Ranked struct {
	Name   string
	Ranks  []float64  // one a case
	Taught event.Time // as of a Result
}

// Options sets how rankers are compared. The zero value is ready to use.
type Options struct {
	Resamples  int         // of the bootstrap; 0: the constant Resamples
	Seed       uint64      // of the bootstrap
	Background *Background // where given, cold users and cold items are reported apart
}

// Row is one line of a report.
type Row struct {
	Name string
	Metrics
	Interval Interval // of HR1
	// Taught is how many of the cases the ranker was told the answers of, or what followed from them: its figures are too good.
	Taught int
	// Lead is HR@1 of the report's main ranker minus that of this one, on the same cases; nil for the main ranker.
	Lead *Paired
}

// Report compares a main ranker with others on the same cases.
type Report struct {
	Users int   // with a case
	All   []Row // the main ranker first, then the others as they were given
	// ColdUsers and ColdItems are the same on those cases alone; nil without a Background.
	ColdUsers, ColdItems []Row
}

// Compare measures the main ranker and the others. The ranks must be those of the cases (CheckRanks).
func Compare(cases []Case, main Ranked, others []Ranked, o Options) (*Report, error) {
	if len(cases) == 0 {
		return nil, errors.New("compare: there is no case")
	}
	for _, r := range append([]Ranked{main}, others...) {
		if err := CheckRanks(cases, r.Ranks); err != nil {
			return nil, fmt.Errorf("compare: ranks of %s: %w", quote(r.Name), err)
		}
	}
	all := make([]int, len(cases))
	for i := range all {
		all[i] = i
	}
	report := &Report{All: compare(cases, all, main, others, o), Users: NewBootstrap(users(cases), 0, 0).users}
	if o.Background != nil {
		report.ColdUsers = compare(cases, o.Background.ColdUsers(), main, others, o)
		report.ColdItems = compare(cases, o.Background.ColdItems(), main, others, o)
	}
	return report, nil
}

// compare makes the rows for the cases at the indices.
func compare(cases []Case, at []int, main Ranked, others []Ranked, o Options) []Row {
	b := NewBootstrap(users(pick(cases, at)), o.Resamples, o.Seed)
	own := Hit(1).Each(pick(main.Ranks, at))
	row := func(r Ranked) Row {
		ranks := pick(r.Ranks, at)
		return Row{Name: r.Name, Metrics: Measure(ranks), Interval: b.Mean(Hit(1).Each(ranks)), Taught: taught(pick(cases, at), r.Taught)}
	}
	rows := []Row{row(main)}
	for _, r := range others {
		other := row(r)
		lead := b.Difference(own, Hit(1).Each(pick(r.Ranks, at)))
		other.Lead = &lead
		rows = append(rows, other)
	}
	return rows
}

// taught counts the cases before a time.
func taught(cases []Case, before event.Time) (n int) {
	for _, c := range cases {
		if c.At < before {
			n++
		}
	}
	return n
}

func users(cases []Case) []string {
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.User
	}
	return names
}

// Figures gives the report for machines: n, hr1, hr1_low, hr1_high, hr5, ndcg5 and mrr of the main ranker, and for each
// of the others, with its name in Against, its against_hr1 and the lead over it: diff_hr1, diff_hr1_low, diff_hr1_high and
// diff_p. No metric stands twice: those of the second other end in _2, and so on. Those of the main ranker on cold users
// and cold items begin with cold_users_ and cold_items_. Of how many cases a ranker was taught the answers is taught, where it
// is of any: taught of the main ranker, against_taught of another. What cannot be known is left out, such as the interval of a
// single user, or everything but n where there is no case.
func (r *Report) Figures() []Figure {
	figures := own("", r.All[0])
	for i, row := range r.All[1:] {
		end := ""
		if i > 0 {
			end = "_" + strconv.Itoa(i+1)
		}
		if row.Taught > 0 {
			figures = append(figures, Figure{Metric: "against_taught" + end, Value: float64(row.Taught), Unit: "cases", Ranker: r.All[0].Name, Against: row.Name})
		}
		for _, f := range []Figure{
			{Metric: "against_hr1", Value: row.HR1, Unit: "share"},
			{Metric: "diff_hr1", Value: row.Lead.Mean, Unit: "share"},
			{Metric: "diff_hr1_low", Value: row.Lead.Low, Unit: "share"},
			{Metric: "diff_hr1_high", Value: row.Lead.High, Unit: "share"},
			{Metric: "diff_p", Value: row.Lead.P, Unit: "probability"},
		} {
			f.Metric, f.Ranker, f.Against = f.Metric+end, r.All[0].Name, row.Name
			figures = append(figures, f)
		}
	}
	if r.ColdUsers != nil {
		figures = append(figures, own("cold_users_", r.ColdUsers[0])...)
		figures = append(figures, own("cold_items_", r.ColdItems[0])...)
	}
	return known(figures)
}

func own(prefix string, row Row) []Figure {
	figures := []Figure{
		{Metric: "n", Value: float64(row.N), Unit: "cases"},
		{Metric: "hr1", Value: row.HR1, Unit: "share"},
		{Metric: "hr1_low", Value: row.Interval.Low, Unit: "share"},
		{Metric: "hr1_high", Value: row.Interval.High, Unit: "share"},
		{Metric: "hr5", Value: row.HR5, Unit: "share"},
		{Metric: "ndcg5", Value: row.NDCG5, Unit: "mean"},
		{Metric: "mrr", Value: row.MRR, Unit: "mean"},
	}
	if row.Taught > 0 {
		figures = append(figures, Figure{Metric: "taught", Value: float64(row.Taught), Unit: "cases"})
	}
	for i := range figures {
		figures[i].Metric, figures[i].Ranker = prefix+figures[i].Metric, row.Name
	}
	return figures
}

// WriteTable writes the report for people, in columns that line up.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "HR@1\t95 %\tHR@5\tNDCG@5\tMRR"
	if len(r.All) > 1 {
		head += "\tlead\t95 %\tp"
	}
	for _, part := range []struct {
		title string
		rows  []Row
	}{
		{fmt.Sprintf("%d cases of %d users", r.All[0].N, r.Users), r.All},
		{fmt.Sprintf("cold users (fewer than %d earlier positives)", ColdUser), r.ColdUsers},
		{fmt.Sprintf("cold items (the answer has fewer than %d earlier positives)", ColdItem), r.ColdItems},
	} {
		switch {
		case part.rows == nil:
			continue
		case part.rows[0].N == 0:
			fmt.Fprintf(t, "\n%s: no case\n", part.title)
			continue
		case &part.rows[0] == &r.All[0]:
			fmt.Fprintf(t, "%s\n", part.title)
		default:
			fmt.Fprintf(t, "\n%s: %d cases\n", part.title, part.rows[0].N)
		}
		fmt.Fprintf(t, "ranker\t%s\n", head)
		for _, row := range part.rows {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s", printable(row.Name, 40),
				share(row.HR1), bounds(row.Interval, share), share(row.HR5), share(row.NDCG5), share(row.MRR))
			switch {
			case row.Lead != nil:
				fmt.Fprintf(t, "\t%s\t%s\t%s", signed(row.Lead.Mean), bounds(row.Lead.Interval, signed), decimals(row.Lead.P, "%.4f"))
			case len(part.rows) > 1:
				fmt.Fprint(t, "\t-\t-\t-") // a line with fewer cells would end the columns
			}
			fmt.Fprintln(t)
		}
	}
	if len(r.All) > 1 {
		fmt.Fprintf(t, "\nlead: HR@1 of %s minus that of the row, on the same cases; p: one-sided, that there is no lead\n", printable(r.All[0].Name, 40))
	}
	for _, row := range r.All {
		if row.Taught > 0 {
			fmt.Fprintf(t, "\nleaky: %s was learned from what came after %d of the %d cases, and its figures are too good\n", printable(row.Name, 40), row.Taught, row.N)
		}
	}
	return t.Flush()
}

func share(x float64) string  { return decimals(x, "%.3f") }
func signed(x float64) string { return decimals(x, "%+.3f") }

func decimals(x float64, format string) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf(format, x)
}

func bounds(i Interval, write func(float64) string) string {
	if math.IsNaN(i.Low) {
		return "-"
	}
	return write(i.Low) + " to " + write(i.High)
}

// printable makes a name from outside fit for a terminal and a picture, at most so many characters long.
func printable(name string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range name {
		shown := string(r)
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			shown = strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		if n += len([]rune(shown)); n > most {
			return b.String() + "…"
		}
		b.WriteString(shown)
	}
	return b.String()
}
