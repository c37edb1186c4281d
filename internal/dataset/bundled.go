package dataset

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed movielens
var movieLens embed.FS

// Bundled reads the data set that travels with the program: MovieLens latest-small of October 2016, 100,004 ratings of
// 9,066 films by 671 users, 9,125 films in the catalogue.
//
// It is the work of GroupLens Research at the University of Minnesota and has its own conditions, which the program's
// licence does not change: research use, no commercial or revenue-bearing use without their permission, redistribution
// under the same conditions only, no claim of their endorsement, and a citation in publications: F. Maxwell Harper and
// Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4, Article 19. Whoever shows the data
// shows BundledNotice or names these conditions; README.txt beside the files has them in full.
func Bundled() (*Dataset, error) {
	folder, err := fs.Sub(movieLens, "movielens")
	if err != nil {
		return nil, fmt.Errorf("bundled data set: %w", err)
	}
	d, err := open(folder, "")
	if err != nil {
		return nil, fmt.Errorf("bundled data set: %w", err)
	}
	d.name = "MovieLens latest-small (bundled)"
	return d, nil
}

// BundledNotice is the notice to show where the bundled data are shown.
const BundledNotice = "Data: MovieLens latest-small, GroupLens Research, University of Minnesota (Harper and Konstan 2015, " +
	"doi.org/10.1145/2827872). Research use only, no commercial use."
