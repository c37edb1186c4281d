package world

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// subjects are what categories are called: words that stand for nothing in particular, and more than any world needs.
var subjects = strings.Fields(`Action Adventure Animation Biography Cartoon Children Classic Comedy Cooking Crafts Crime Crossover Dance
	Documentary Drama Electronics Family Fantasy Fashion Fiction Film-Noir Folk Gadgets Garden Handmade Health History Holiday Home Horror
	Humour Indie Jazz Kitchen Literature Live Local Luxury Magic Mini Modern Music Musical Mystery Nature News Office Outdoor Pets
	Philosophy Photo Poetry Politics Pop Puzzle Reference Retro Romance Sale Satire School Sci-Fi Science Short Sports Strategy
	Teen Thriller Toys Travel Vintage War Western Winter Workshop Young`)

var words = strings.Fields(`about after again alone angel april army autumn bad beast before best big bird black blood blue body bone book boy
	bride bridge broken brother cat chance child city clock cold colour corner country dance dark daughter day dead dear deep devil dog door double
	dream dust edge empire end eye face fall father fear field fire first five flight flower forest four free friend game garden ghost girl glass
	gold good great green ground guest half hand happy heart heaven hero high home honest hope horse hotel hour house hunter ice iron island journey
	key king kiss lady lake land last law letter lie life light lion little long lost love machine magic man mask mercy midnight mind mirror money
	moon morning mother mountain music name never new next night nine north ocean old one only open orange other paper party past perfect piano
	place planet player power prince promise queen quiet rain red return rich ring river road room rose run salt sand school sea second secret
	seven shadow ship short silence silver simple sister six sky sleep small smoke snow soldier song south spring star station stone storm story
	stranger street summer sun sweet table tale ten thief thing third three time tomorrow tower town train tree true two under velvet village voice
	wall war water way wedding west white wild wind window winter woman wood word world year young zero`)

var (
	onsets = strings.Fields("b bl br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pr qu r s sh sk sl st str t th tr v w y z")
	vowels = strings.Fields("a e i o u a e i o ai ea ee ie io oo ou")
	codas  = append(strings.Fields("b ck d g l ll lm m n nd ng nt p r rd rn s sh ss st t th v x"), "", "", "", "", "", "")
	ends   = strings.Fields("a o er en in ia ium on or us y")
)

// describe gives every item an id, a title and its categories' names. Titles are made up; in some worlds they end with a
// year, in others with nothing or a model number.
func (w *World) describe(rng *rand.Rand) {
	o := w.opt
	names := slices.Clone(subjects)
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	prefix := pick(rng, "", "", "item-", "p", strings.ToUpper(coin(rng)[:1]))
	ids := distinct(rng, o.Items)
	ending := pick(rng, yearOf, yearOf, yearOf, numberOf, nothing)
	made := rng.Float64() * .6 // share of words that no dictionary has
	w.catalogue = make([]event.Item, o.Items)
	w.itemIndex = make(map[string]int, o.Items)
	for i, it := range w.items {
		record := event.Item{ItemID: prefix + strconv.Itoa(ids[i]), Title: title(rng, made) + ending(rng, it)}
		for _, k := range it.kinds {
			record.Categories = append(record.Categories, names[k])
		}
		slices.Sort(record.Categories)
		w.catalogue[i] = record
		w.itemIndex[record.ItemID] = i
	}
}

// distinct draws n different numbers from 1 on, with gaps.
func distinct(rng *rand.Rand, n int) []int {
	ids := rng.Perm(n + n/2 + 1)
	for i := range ids {
		ids[i]++
	}
	return ids[:n]
}

func yearOf(rng *rand.Rand, it item) string {
	year := it.born.Std().Year()
	if rng.IntN(3) == 0 { // it had been around before it came here
		year -= rng.IntN(40)
	}
	return " (" + strconv.Itoa(year) + ")"
}

func numberOf(rng *rand.Rand, _ item) string {
	if rng.IntN(3) == 0 {
		return ""
	}
	return " " + strconv.Itoa((1+rng.IntN(99))*pick(rng, 1, 10, 100))
}

func nothing(*rand.Rand, item) string { return "" }

func title(rng *rand.Rand, made float64) string {
	word := func() string {
		if rng.Float64() < made {
			return coin(rng)
		}
		w := words[rng.IntN(len(words))]
		return strings.ToUpper(w[:1]) + w[1:]
	}
	switch rng.IntN(12) {
	case 0, 1:
		return word()
	case 2, 3, 4:
		return word() + " " + word()
	case 5, 6:
		return "The " + word() + " " + word()
	case 7:
		return word() + " of the " + word()
	case 8:
		return word() + " and " + word()
	case 9:
		return "A " + word() + " in " + word() + " " + word()
	case 10:
		return word() + ": The " + word() + " " + word()
	default:
		return word() + " " + pick(rng, "2", "3", "II", "III", "Returns", "& Co")
	}
}

// coin makes up a word.
func coin(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(2) {
		b.WriteString(pick(rng, onsets...) + pick(rng, vowels...) + pick(rng, codas...))
	}
	if rng.IntN(2) == 0 {
		b.WriteString(pick(rng, ends...))
	}
	s := b.String()
	return strings.ToUpper(s[:1]) + s[1:]
}
