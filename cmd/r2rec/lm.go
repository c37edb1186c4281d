package main

// lmCommand are the commands about the language model that runs within this program.
type lmCommand struct {
	Pretrain lmPretrainCommand `cmd:"" help:"Make the base model from synthetic worlds, from nothing."`
	Tune     lmTuneCommand     `cmd:"" help:"Teach a model a data set: fit a LoRA adapter on what its users chose."`
}
