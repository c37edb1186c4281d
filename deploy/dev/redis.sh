# shellcheck shell=bash
# Redis, from Debian.

REDIS_SERVER="$(command -v redis-server || printf '%s' "$HOME_DIR/redis/redis-server")"

redis_install() {
  if command -v "$REDIS_SERVER" >/dev/null && command -v redis-cli >/dev/null; then return; fi
  # Debian's redis-tools carries the server's binary (redis-check-rdb is the same file under another name) without the
  # service that the package redis-server would start on port 6379.
  if ! command -v redis-check-rdb >/dev/null || ! command -v redis-cli >/dev/null; then apt_install redis-tools; fi
  REDIS_SERVER="$HOME_DIR/redis/redis-server"
  mkdir -p "$HOME_DIR/redis"
  ln -sfn "$(command -v redis-check-rdb)" "$REDIS_SERVER"
  "$REDIS_SERVER" --version >/dev/null || die "$REDIS_SERVER is not a Redis server; install the Debian package redis-server"
}

# Every acknowledged write goes to the append-only file, synced each second; no snapshots. The listpack limit is what
# keeps a node's list of at most 128 edges in its small encoding. Lists are read by DUMP, which would compress each one
# for the reader to decompress; the price is a larger file wherever Redis writes a database file, as it does for the base
# of the append-only file.
redis_start() {
  mkdir -p "$RUN_DIR/redis"
  launch redis "$REDIS_SERVER" --bind 127.0.0.1 --port "$1" --protected-mode yes --daemonize no \
    --dir "$RUN_DIR/redis" --save '' --appendonly yes --zset-max-listpack-entries 256 --rdbcompression no
}

redis_ready() { [[ "$(redis-cli -h 127.0.0.1 -p "$1" ping 2>/dev/null)" == PONG ]]; }

redis_env() {
  say "export R2REC_TEST_REDIS=127.0.0.1:$1"
  say "export R2REC_REDIS=redis://127.0.0.1:$1/0"
  printf 'export R2REC_TEST_REDIS_SERVER=%q\n' "$REDIS_SERVER"
}
