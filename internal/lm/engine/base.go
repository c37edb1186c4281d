package engine

import _ "embed"

// BaseName is what the base model is called.
const BaseName = "r2rec-base"

// base is the model that travels with the program (docs/base-model.md): it reads evidence and knows no items.
//
//go:embed base.gguf
var base []byte
