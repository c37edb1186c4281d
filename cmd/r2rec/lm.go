package main

// lmCommand are the commands about the language model that runs within this program.
type lmCommand struct {
	Pretrain lmPretrainCommand `cmd:"" help:"Make the base model from synthetic worlds, from nothing."`
	Tune     lmTuneCommand     `cmd:"" help:"Teach a model your data: fit a LoRA adapter on what your users chose."`
	Traces   lmTracesCommand   `cmd:"" help:"Have a model write why users chose what they chose, to learn thinking from."`
	Export   lmExportCommand   `cmd:"" help:"Write what your users chose for a trainer elsewhere, such as one on a GPU."`
	Think    lmThinkCommand    `cmd:"" help:"Teach a model to think by what its thoughts lead to: reinforcement learning."`
}

// Help is shown by `r2rec lm --help`.
func (lmCommand) Help() string {
	return `A small model travels with the program: it ranks by the evidence of the graph and knows no item, so that it serves any
catalogue from the start. Taught what your own users chose, it can rank better. That takes minutes and no GPU, and gives
a file beside the model, an adapter:

  r2rec lm tune --events events.csv --items items.csv --fit-before 2026-01-01T00:00:00Z --adapter-out mine.gguf
  r2rec serve --adapter mine.gguf

r2rec eval --ranker lm measures either, on what happened later.`
}
