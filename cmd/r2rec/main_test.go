package main

import (
	"os"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// asProgram is the variable that makes the tests' own executable the program: as a process of its own it can be killed.
const asProgram = "R2REC_TEST_AS_PROGRAM"

// TestMain takes the settings of whoever runs the tests out of the environment: a command under test has those that its
// test gives it. The program has those that it was started with.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "R2REC_") && !strings.HasPrefix(name, "R2REC_TEST_") && name != embeddedtest.EnvRequire {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}
