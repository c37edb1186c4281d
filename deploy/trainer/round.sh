#!/usr/bin/env bash
# One round elsewhere: export, SFT, GRPO, import. Addresses come from the environment, as for r2rec (R2REC_KAFKA, R2REC_REDIS,
# R2REC_ADAPTERS); MODEL names the GGUF file that is served, WORK a folder with room for the adapters. EXPORT_FLAGS,
# SFT_FLAGS and GRPO_FLAGS are passed on; the first has to name the prompt by which the server asks, if not version 1.
# Told to end, it tells the command at work, which lets go of the lease of trainers, and ends after it.
set -euo pipefail
: "${MODEL:?names the GGUF file that is served}" "${WORK:?names a folder to work in}"
here="$(dirname "${BASH_SOURCE[0]}")"
round="$(mktemp -d "$WORK/round.XXXXXX")"
trap 'rm -rf "$round"' EXIT
command='' stopped=''
# As the first process of a container it would hear of no signal that it does not ask for.
trap 'stopped=1; [[ -z $command ]] || kill -TERM "$command" 2>/dev/null || true' TERM INT

# step runs a command, and ends the round where there is nothing to do: refused (10), too few decisions for the gate (11), none
# to learn from (12), or waiting (13). The command has said which, and it is nothing for an operator.
step() {
  local status=0
  [[ -z $stopped ]] || exit 130
  "$@" &
  command=$!
  [[ -z $stopped ]] || kill -TERM "$command" 2>/dev/null || true # told in between
  wait "$command" || status=$?
  while kill -0 "$command" 2>/dev/null; do # a signal ended the waiting, and not the command
    status=0
    wait "$command" || status=$?
  done
  command=''
  case $status in
  0) ;;
  10 | 11 | 12 | 13) exit 0 ;;
  *) exit "$status" ;;
  esac
}

step r2rec adapters list >/dev/null # Kafka and the store of adapters are there: better to know before hours on a GPU
# shellcheck disable=SC2086 # flags are several words
{
  step r2rec train export "$round/export" --model "$MODEL" --readout letters ${EXPORT_FLAGS:-}
  step python3 "$here/train.py" sft --export "$round/export" --model "$MODEL" --out "$round/fitted" ${SFT_FLAGS:-}
  step python3 "$here/train.py" grpo --export "$round/export" --model "$MODEL" --begin "$round/fitted" --out "$round/adapter" ${GRPO_FLAGS:-}
}
step r2rec adapters import "$round/adapter" --model "$MODEL" --work "$WORK/import"
