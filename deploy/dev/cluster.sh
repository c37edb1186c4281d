# shellcheck shell=bash
# Redis Cluster: three masters and a replica of each, six processes of the part redis' server. The part's process is
# cluster/servers, which runs them; its port is the first server's.

CLUSTER_SIZE=6
CLUSTER_DIR="$RUN_DIR/cluster"

cluster_install() { redis_install; }

# The servers talk among each other by a second port each, which is chosen here because the one they would take lies among
# the ephemeral ports. They know each other by both: where one has changed, they begin anew.
cluster_start() {
  local ports=("$1") buses=() i
  for ((i = 2; i <= CLUSTER_SIZE; i++)); do ports+=("$(remembered_port "cluster-$i")"); done
  for ((i = 1; i <= CLUSTER_SIZE; i++)); do buses+=("$(remembered_port "cluster-bus-$i")"); done
  local nodes=("${ports[@]/#/127.0.0.1:}")
  for ((i = 0; i < CLUSTER_SIZE; i++)); do nodes[i]+="@${buses[i]}"; done
  if [[ "$(cat "$CLUSTER_DIR/nodes" 2>/dev/null)" != "${nodes[*]}" ]]; then rm -rf "$CLUSTER_DIR"; fi
  mkdir -p "$CLUSTER_DIR"
  printf '%s\n' "${nodes[*]}" >"$CLUSTER_DIR/nodes"
  launch cluster "$DEV_DIR/cluster/servers" "$REDIS_SERVER" "$CLUSTER_DIR" "${ports[@]}" "${buses[@]}"
}

# cluster_ready wants all servers to answer before they are made a cluster. Afterwards it is enough that one says that all
# slots are served, so that a cluster in which somebody tries a failure counts as running.
cluster_ready() {
  local port
  for port in $(cluster_ports); do
    if [[ ! -e "$CLUSTER_DIR/created" ]]; then
      redis_ready "$port" || return 1
    elif cluster_is_whole "$port"; then
      return 0
    fi
  done
  [[ ! -e "$CLUSTER_DIR/created" ]]
}

# cluster_setup makes a cluster of the servers, once, and waits until each of them knows that it is one.
cluster_setup() {
  local port deadline=$((SECONDS + 60))
  if [[ ! -e "$CLUSTER_DIR/created" ]]; then
    # shellcheck disable=SC2046 # a word a node
    redis-cli --cluster create $(<"$CLUSTER_DIR/nodes") --cluster-replicas 1 --cluster-yes </dev/null >>"$RUN_DIR/cluster.log" 2>&1 ||
      fail_with_log cluster "could not be made of six servers"
    touch "$CLUSTER_DIR/created"
  fi
  for port in $(cluster_ports); do
    until cluster_is_whole "$port" && (($(cluster_says "$port" nodes | grep -c 'slave .* connected') == CLUSTER_SIZE / 2)); do
      ((SECONDS < deadline)) || fail_with_log cluster "is not whole, says the server on 127.0.0.1:$port"
      sleep 0.1
    done
  done
}

cluster_ports() { grep -o ':[0-9]*' "$CLUSTER_DIR/nodes" | tr -d :; }

cluster_says() { redis-cli -h 127.0.0.1 -p "$1" cluster "$2" 2>/dev/null; }

cluster_is_whole() { [[ "$(cluster_says "$1" info)" == *cluster_state:ok* ]]; }

cluster_env() { say "export R2REC_TEST_REDIS_CLUSTER=127.0.0.1:$1"; }
