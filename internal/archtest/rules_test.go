package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/r2rec/r2rec/"

// source is the head of one Go file: its imports, as they are written, and whether it describes its package.
type source struct {
	path      string // from the module's root
	imports   []string
	described bool
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// violations lists every break of the rules in a module's tree, ordered by path.
func violations(tree fs.FS) ([]string, error) {
	sources, err := read(tree)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, dir := range slices.Sorted(maps.Keys(sources)) {
		files := sources[dir]
		if _, known := rows[dir]; !known {
			problems = append(problems, dir+" has no row in internal/archtest: add it, with the packages it may import")
			continue
		}
		if !isDescribed(files) {
			problems = append(problems, dir+" has no package comment: say what it is for, what it promises and what it leaves to others")
		}
		for _, file := range files {
			for _, imported := range file.imports {
				if problem := breaks(dir, file, imported); problem != "" {
					problems = append(problems, problem)
				}
			}
		}
	}
	return problems, nil
}

// breaks says which rule an import of one file of the package dir breaks, or returns "".
func breaks(dir string, file source, imported string) string {
	if own, ok := strings.CutPrefix(imported, module); ok {
		allowed := rows[dir]
		switch {
		case own == dir, slices.Contains(allowed, everything), slices.Contains(allowed, own):
		case file.isTest() && (slices.Contains(forTests, own) || slices.Contains(forTestsOf[dir], own)):
		default:
			return fmt.Sprintf("%s imports %s, which its row in internal/archtest does not allow: %v", file.path, own, allowed)
		}
	}
	for library, users := range libraries {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && !file.isTest() && !slices.Contains(users, dir) {
			return fmt.Sprintf("%s imports %s, which only %v may", file.path, imported, users)
		}
	}
	return ""
}

// isDescribed tells whether a package has its comment where go doc looks for it: in a file that is no test, unless the
// package has only tests.
func isDescribed(files []source) bool {
	onlyTests := !slices.ContainsFunc(files, func(s source) bool { return !s.isTest() })
	return slices.ContainsFunc(files, func(s source) bool { return s.described && (onlyTests || !s.isTest()) })
}

// read returns the Go files of a module by folder, leaving out the folders that the go command leaves out.
func read(tree fs.FS) (map[string][]source, error) {
	sources := map[string][]source{}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		sources[path.Dir(name)] = append(sources[path.Dir(name)], source{name, importsOf(file), file.Doc != nil})
		return nil
	})
	return sources, err
}

func importsOf(file *ast.File) []string {
	var imports []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser has checked it
		}
		imports = append(imports, imported)
	}
	return imports
}
