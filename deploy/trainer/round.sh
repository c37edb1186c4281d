#!/usr/bin/env bash
# One round elsewhere: export, SFT, GRPO, import. Addresses come from the environment, as for r2rec (R2REC_KAFKA, R2REC_REDIS,
# R2REC_ADAPTERS); MODEL names the GGUF file that is served, WORK a folder with room for the adapters.
set -euo pipefail
: "${MODEL:?names the GGUF file that is served}" "${WORK:?names a folder to work in}"
here="$(dirname "${BASH_SOURCE[0]}")"
round="$(mktemp -d "$WORK/round.XXXXXX")"
trap 'rm -rf "$round"' EXIT

r2rec train export "$round/export" --model "$MODEL" --readout letters
python3 "$here/train.py" sft --export "$round/export" --model "$MODEL" --out "$round/fitted" ${SFT_FLAGS:-}
python3 "$here/train.py" grpo --export "$round/export" --model "$MODEL" --begin "$round/fitted" --out "$round/adapter" ${GRPO_FLAGS:-}
status=0
r2rec adapters import "$round/adapter" --model "$MODEL" --work "$WORK/import" || status=$?
case $status in
10 | 11 | 12 | 13) exit 0 ;; # refused, too few decisions, none, or waiting: said above, and nothing for an operator
esac
exit "$status"
