# shellcheck shell=bash
# What the scripts of this folder share: places, ports, processes, waiting. Sourced, never run.
#
# A part (redis, cluster, kafka, ollama) is a file PART.sh with four functions:
#   PART_install   puts what it needs under $HOME_DIR, or finds it there
#   PART_start     starts the server on port $1 with `launch`
#   PART_ready     succeeds once the server on port $1 answers in its own protocol
#   PART_env       prints the export lines for port $1
# and may have PART_setup, run once the server on port $1 is ready.

PARTS=(redis cluster kafka ollama)
# shellcheck disable=SC2034 # the parts use it
HOME_DIR="${R2REC_DEV_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/r2rec-dev}" # downloads and builds, shared by checkouts
RUN_DIR="$DEV_DIR/run"                                                  # processes, ports, data and logs of this checkout
ENV_FILE="$DEV_DIR/env"

say() { printf '%s\n' "$*"; }

die() {
  printf 'deploy/dev: %s\n' "$*" >&2
  exit 1
}

# select_parts NAME... sets SELECTED to the named parts in the order of PARTS; none named means all.
select_parts() {
  local name part
  SELECTED=()
  for name in "$@"; do
    [[ " ${PARTS[*]} " == *" $name "* ]] || die "no part is called '$name'; there are: ${PARTS[*]}"
  done
  for part in "${PARTS[@]}"; do
    if (($# == 0)) || [[ " $* " == *" $part "* ]]; then SELECTED+=("$part"); fi
  done
}

# lock FILE waits until no other script of this folder holds FILE, and holds it until `unlock` or the script's end.
lock() {
  mkdir -p "$(dirname "$1")"
  exec {LOCK_FD}>"$1"
  flock -n "$LOCK_FD" && return
  say "waiting for another run that holds $1"
  flock -w 1800 "$LOCK_FD" || die "waited 30 minutes for $1"
}

unlock() { exec {LOCK_FD}>&-; }

# require_command COMMAND PACKAGE names the Debian package of a command that is missing.
require_command() { command -v "$1" >/dev/null || die "$1 is needed and not installed (Debian package: $2)"; }

# apt_install PACKAGE... installs Debian packages, or says exactly what is missing where that is impossible.
apt_install() {
  local as_root=()
  command -v apt-get >/dev/null || die "these Debian packages are needed, and this machine has no apt-get: $*"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || die "these Debian packages are needed; install them as root: apt-get install $*"
    as_root=(sudo -n)
  fi
  # The lists of a new machine may be empty or name files that are gone, so a failed install is tried again after an update.
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@")
  "${install[@]}" </dev/null >/dev/null 2>&1 && return
  "${as_root[@]}" apt-get update -qq </dev/null >&2 || die "apt-get update failed, and these packages are needed: $*"
  "${install[@]}" </dev/null >&2 || die "apt-get could not install: $*"
}

# port_answers PORT tells whether anything listens on the loopback port.
port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints a loopback port that nobody uses, nor a part of this checkout that is not running now. It lies below the ephemeral ports (32768 and up), so that no
# outgoing connection can take it while the server is down for a moment.
free_port() {
  local port _
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 10000))
    if ! port_answers "$port" && ! cat "$RUN_DIR"/*.port 2>/dev/null | grep -qx "$port"; then
      printf '%s\n' "$port"
      return
    fi
  done
  die "found no free port between 20000 and 29999"
}

# remembered_port NAME prints the port that NAME had before, so that a part comes back where its clients look for it;
# a new one the first time, or where somebody else has taken it.
remembered_port() {
  local file="$RUN_DIR/$1.port" port=''
  [[ -s "$file" ]] && port="$(<"$file")"
  if [[ -n "$port" ]] && port_answers "$port"; then
    say "$1: port $port is taken by another process, choosing a new one" >&2
    port=''
  fi
  [[ -n "$port" ]] || port="$(free_port)"
  printf '%s\n' "$port" | tee "$file"
}

# stamp PID prints what no later process with the same number shares: its start in ticks since boot, and the boot.
stamp() {
  local stat
  stat="$(cat "/proc/$1/stat" 2>/dev/null)" || return 1
  # The name in parentheses may hold spaces: count the fields after it. The third field of the whole line is the state.
  read -r -a stat <<<"${stat##*) }"
  [[ "${stat[0]}" != Z ]] && printf '%s %s\n' "${stat[19]}" "$(</proc/sys/kernel/random/boot_id)"
}

# running_pid PART prints the process id of a part that this checkout started and that still runs.
running_pid() {
  local pid started
  read -r pid started 2>/dev/null <"$RUN_DIR/$1.pid" || return 1
  [[ "$(stamp "$pid")" == "$started" ]] && printf '%s\n' "$pid"
}

# launch PART COMMAND... starts a server in a process group of its own, with its output in the part's log. File
# descriptors other than the standard ones are closed: a server that kept a lock's would hold the lock.
launch() {
  local part="$1" fd
  shift
  (
    for fd in "/proc/$BASHPID/fd/"*; do
      fd="${fd##*/}"
      ((fd > 2)) && eval "exec $fd>&-" 2>/dev/null
    done
    exec setsid "$@" </dev/null >>"$RUN_DIR/$part.log" 2>&1
  ) &
  printf '%s %s\n' "$!" "$(stamp "$!")" >"$RUN_DIR/$part.pid"
}

# await PART SECONDS PORT waits until the part answers; it fails with the end of the log when the server ends or the
# time does.
await() {
  local part="$1" deadline=$((SECONDS + $2)) port="$3"
  until "${part}_ready" "$port"; do
    running_pid "$part" >/dev/null || fail_with_log "$part" "ended while starting"
    ((SECONDS < deadline)) || fail_with_log "$part" "did not answer on 127.0.0.1:$port within $2 s"
    sleep 0.1
  done
}

fail_with_log() {
  printf '%s %s; the end of %s:\n' "$1" "$2" "$RUN_DIR/$1.log" >&2
  tail -n 30 "$RUN_DIR/$1.log" >&2 || true
  stop_part "$1" >&2
  exit 1
}

# stop_part PART asks the part's process to end, and kills its process group if it has not after 20 s.
stop_part() {
  local part="$1" pid _
  if ! pid="$(running_pid "$part")"; then
    rm -f "$RUN_DIR/$part.pid"
    say "$part: not running"
    return
  fi
  kill -TERM "$pid" 2>/dev/null || true
  for _ in {1..200}; do
    running_pid "$part" >/dev/null || break
    sleep 0.1
  done
  # Also reaches what a server left behind, such as Ollama's runners.
  kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$RUN_DIR/$part.pid"
  say "$part: stopped (process $pid)"
}

# write_env writes the export lines of all parts that run, in one step, so that a reader never sees half of them.
write_env() {
  local part
  {
    say "# Written by deploy/dev/up and deploy/dev/down: where the real servers of this checkout are."
    printf 'export R2REC_TEST_DEV=%q\n' "$DEV_DIR"
    for part in "${PARTS[@]}"; do
      if running_pid "$part" >/dev/null; then "${part}_env" "$(<"$RUN_DIR/$part.port")"; fi
    done
  } >"$ENV_FILE.new"
  mv "$ENV_FILE.new" "$ENV_FILE"
}
