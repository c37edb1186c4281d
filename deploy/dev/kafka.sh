# shellcheck shell=bash
# Apache Kafka in KRaft mode, one node that is broker and controller, from Maven Central.

KAFKA_VERSION=4.1.0
KAFKA_LIB="$HOME_DIR/kafka-$KAFKA_VERSION"

kafka_install() {
  require_command java openjdk-17-jre-headless
  [[ -e "$KAFKA_LIB/complete" ]] && return
  require_command mvn maven
  say "kafka: fetching version $KAFKA_VERSION (43 MB)"
  rm -rf "$KAFKA_LIB"
  mkdir -p "$KAFKA_LIB/lib"
  cp "$DEV_DIR/kafka/pom.xml" "$KAFKA_LIB/"
  mvn -q -B -f "$KAFKA_LIB/pom.xml" -Dkafka.version="$KAFKA_VERSION" dependency:copy-dependencies \
    -DoutputDirectory="$KAFKA_LIB/lib" >"$KAFKA_LIB/mvn.log" 2>&1 </dev/null ||
    { tail -n 30 "$KAFKA_LIB/mvn.log" >&2; die "Maven could not fetch Kafka $KAFKA_VERSION"; }
  touch "$KAFKA_LIB/complete"
}

kafka_start() {
  local port="$1" controller config="$RUN_DIR/kafka/server.properties"
  controller="$(remembered_port kafka-controller)"
  mkdir -p "$RUN_DIR/kafka"
  # One replica of everything, because there is one node; few partitions of the internal topics, because each costs
  # time when the first group or transaction appears. Members may be silent for half a second only, so that tests that
  # kill one need not wait for long.
  cat >"$config" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$RUN_DIR/kafka/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
PROPERTIES
  if [[ ! -e "$RUN_DIR/kafka/data/meta.properties" ]]; then
    kafka_java kafka.tools.StorageTool format -t "$(kafka_java kafka.tools.StorageTool random-uuid)" -c "$config" \
      >>"$RUN_DIR/kafka.log" 2>&1 || fail_with_log kafka "could not format its storage"
  fi
  launch kafka java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.dateTimeFormat='yyyy-MM-dd HH:mm:ss' -cp "$KAFKA_LIB/lib/*" kafka.Kafka "$config"
}

kafka_java() { java -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIB/lib/*" "$@"; }

# Asks for the broker's API versions (request 18, version 0, correlation id 1, no client id); the answer carries the
# correlation id and error code 0. The port alone opens before the broker serves requests.
kafka_ready() {
  local answer
  port_answers "$1" || return 1
  answer="$({
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
    timeout 5 head -c 10 <&3 | od -An -tx1 -j4 | tr -d ' \n'
  } 2>/dev/null)" || return 1
  [[ "$answer" == 000000010000 ]]
}

kafka_env() {
  say "export R2REC_TEST_KAFKA=127.0.0.1:$1"
  say "export R2REC_KAFKA=127.0.0.1:$1"
}
