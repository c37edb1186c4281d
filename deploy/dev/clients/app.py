"""Reads a user's recommendations the way an app would: from Redis, with a client library from PyPI.

    deploy/dev/clients/python deploy/dev/clients/app.py redis://127.0.0.1:6379/0 USER

Prints one JSON object: `recommendation` is the document under r2:rec:{USER}, `top` the ranking under r2:top:{USER} as
[item, score] pairs, best first. Each is null where the key does not exist; docs/contracts.md describes both.
"""

import argparse
import json

import redis


def key(prefix, kind, user):
    """Returns the key of a user's document (kind "rec") or ranking (kind "top").

    The braces are literal: they put both keys into one Cluster slot. Braces and per cent signs within the id are
    percent-encoded, so that no id can close them early.
    """
    escaped = user.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"{prefix}{kind}:{{{escaped}}}"


def main():
    parser = argparse.ArgumentParser(description="Print a user's recommendations as JSON.")
    parser.add_argument("redis", help="URL, for example redis://127.0.0.1:6379/0")
    parser.add_argument("user")
    parser.add_argument("--prefix", default="r2:", help="what all of r2rec's keys begin with (default r2:)")
    options = parser.parse_args()

    client = redis.Redis.from_url(options.redis, decode_responses=True)
    # MULTI and EXEC: r2rec writes both keys in one transaction, and read like this they belong to each other.
    with client.pipeline(transaction=True) as pipeline:
        pipeline.get(key(options.prefix, "rec", options.user))
        pipeline.zrevrange(key(options.prefix, "top", options.user), 0, -1, withscores=True)
        document, top = pipeline.execute()
    print(json.dumps({"recommendation": json.loads(document) if document else None, "top": top or None}))


if __name__ == "__main__":
    main()
