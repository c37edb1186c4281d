package fusion

import "testing"

func TestTheDefaultModelLoads(t *testing.T) {
	if got := Default().Training().Examples; got < MinExamples {
		t.Errorf("the default model was fitted on %d examples", got)
	}
}
