"""Publishes interactions to Kafka the way a shop's own service would: with a client library from PyPI.

    deploy/dev/clients/python deploy/dev/clients/producer.py 127.0.0.1:9092 < events.jsonl

Standard input holds one interaction a line, as JSON; docs/contracts.md lists the fields. Each line becomes one record,
byte for byte, keyed by its user_id. The last line of the output, a JSON object, tells how many records the brokers
acknowledged; the exit status is 1 if a line has no user_id or any record was not acknowledged.
"""

import argparse
import json
import sys

from confluent_kafka import Producer


def user_of(number, line):
    """Returns the user_id of one line of input, or ends the program with a message that names the line."""
    try:
        user = json.loads(line)["user_id"]
    except (ValueError, KeyError, TypeError) as problem:
        sys.exit(f"line {number}: not a JSON object with a user_id: {problem!r}")
    if not isinstance(user, str):
        sys.exit(f"line {number}: user_id is not a string: {user!r}")
    return user


def main():
    parser = argparse.ArgumentParser(description="Publish interactions, one JSON object a line on standard input.")
    parser.add_argument("brokers", help="host:port, several separated by commas")
    parser.add_argument("--topic", default="interactions")
    parser.add_argument("--timeout", type=float, default=30, help="seconds to wait for acknowledgements (default 30)")
    options = parser.parse_args()

    producer = Producer(
        {
            "bootstrap.servers": options.brokers,
            "acks": "all",
            "enable.idempotence": True,
            # The partitioner of Kafka's Java client. Producers of one topic have to agree on it, or a user's events
            # spread over two partitions and lose their order.
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": int(options.timeout * 1000),
        }
    )
    acknowledged, failures = 0, []

    def delivered(error, _message):
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            failures.append(str(error))

    # Bytes, split at \n alone: a title may hold any other character that Python takes for the end of a line.
    for number, line in enumerate(sys.stdin.buffer, start=1):
        line = line.rstrip(b"\r\n")
        if not line.strip():
            continue
        key = user_of(number, line).encode()
        while True:
            try:
                producer.produce(options.topic, value=line, key=key, on_delivery=delivered)
                break
            except BufferError:  # the local queue is full: let deliveries make room
                producer.poll(0.1)
        producer.poll(0)
    unsent = producer.flush(options.timeout)

    print(json.dumps({"topic": options.topic, "acknowledged": acknowledged, "failed": len(failures) + unsent}))
    if failures or unsent:
        sys.exit(f"{len(failures)} records failed, {unsent} were not acknowledged in time; first failure: {failures[:1]}")


if __name__ == "__main__":
    main()
