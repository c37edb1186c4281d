package lora

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// config is PEFT's adapter_config.json, as far as it is written.
type config struct {
	Type      string   `json:"peft_type"`
	Task      string   `json:"task_type"`
	Rank      int      `json:"r"`
	Alpha     float64  `json:"lora_alpha"`
	Targets   []string `json:"target_modules"` // whole names of layers
	Dropout   float64  `json:"lora_dropout"`
	Bias      string   `json:"bias"`
	Inference bool     `json:"inference_mode"`
}

func newConfig(a *Adapter, targets []string) config {
	return config{Type: "LORA", Task: "CAUSAL_LM", Rank: a.Rank, Alpha: a.Alpha, Targets: targets, Bias: "none", Inference: true}
}

// plain lists the settings of PEFT that can make an adapter something else than W + alpha/r B A, each with the values, as
// JSON, that do not. What is missing, null, false or empty does not either.
var plain = map[string][]string{
	"alora_invocation_tokens": nil,
	"alpha_pattern":           nil,
	"bias":                    {`"none"`},
	"fan_in_fan_out":          nil,
	"init_lora_weights":       {`true`, `"gaussian"`, `"eva"`}, // others, such as PiSSA, change the base model's weights
	"layer_replication":       nil,
	"lora_bias":               nil,
	"modules_to_save":         nil,
	"peft_type":               {`"LORA"`},
	"rank_pattern":            nil,
	"target_parameters":       nil,
	"trainable_token_indices": nil,
	"use_dora":                nil,
	"use_qalora":              nil,
	"use_rslora":              nil,
}

// readConfig reads rank and alpha, and refuses a setting that an Adapter cannot express.
func readConfig(dir string) (rank int, alpha float64, err error) {
	var settings map[string]json.RawMessage
	if err := readJSON(filepath.Join(dir, configFile), &settings); err != nil {
		return 0, 0, err
	}
	for _, name := range slices.Sorted(maps.Keys(plain)) {
		value := string(settings[name])
		if !slices.Contains([]string{"", "null", "false", "[]", "{}"}, value) && !slices.Contains(plain[name], value) {
			return 0, 0, fmt.Errorf("%s: %s is %.100s, which is not supported", configFile, name, value)
		}
	}
	for name, into := range map[string]any{"r": &rank, "lora_alpha": &alpha} {
		value, ok := settings[name]
		if !ok {
			return 0, 0, fmt.Errorf("%s: %s is missing", configFile, name)
		}
		if err := json.Unmarshal(value, into); err != nil {
			return 0, 0, fmt.Errorf("%s: %s is %.100s: %w", configFile, name, value, err)
		}
	}
	return rank, alpha, nil
}
