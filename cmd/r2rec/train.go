package main

// trainCommand are the commands by which the model learns from what became of its own recommendations.
type trainCommand struct {
	Replay  trainReplayCommand  `cmd:"" help:"Go through the whole loop on a data set of the past: fine-tune, recommend, be clicked, learn, judge."`
	Compare trainCompareCommand `cmd:"" help:"Say what learning from clicks was worth in several runs of train replay together."`
}
