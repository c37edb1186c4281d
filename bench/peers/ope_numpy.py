"""The estimators of internal/ope, computed by numpy: an independent source of truth for its tests.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6
    cd internal/ope
    venv/bin/python ../../bench/peers/ope_numpy.py draw > testdata/samples.csv
    venv/bin/python ../../bench/peers/ope_numpy.py estimate testdata/samples.csv > testdata/numpy.json
    cd logs/testdata
    venv/bin/python ../../../../bench/peers/ope_numpy.py openbandit openbandit > numpy.json

draw makes a log with users who differ, heavy weights and a poor model of the reward; estimate reads such a log (user,
reward, logged, target, q, v, vlogged); openbandit estimates from the logs in a folder, random/women.csv.gz and
bts/women.csv.gz, the click rate of each one's policy from the other's log. Each prints CSV or one JSON object.
"""

import csv
import gzip
import json
import sys

import numpy as np

CLIPS = {"10": 10.0, "3": 3.0, "none": np.inf}


def draw():
    rng = np.random.default_rng(6)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["user", "reward", "logged", "target", "q", "v", "vlogged"])
    for user in range(60):
        taste = rng.normal(size=6)
        for _ in range(rng.integers(1, 9)):
            logged = rng.dirichlet(np.full(6, 0.7)) + 1e-3
            target = rng.dirichlet(np.full(6, 0.7)) + 1e-3
            logged, target = logged / logged.sum(), target / target.sum()
            q = 1 / (1 + np.exp(-rng.normal(size=6)))
            action = rng.choice(6, p=logged)
            reward = int(rng.random() < 1 / (1 + np.exp(-taste[action]))) * rng.choice([1, 1, 3])
            row = [reward, logged[action], target[action], q[action], target @ q, logged @ q]
            out.writerow([f"u{user}"] + [repr(float(x)) for x in row])


def kish(w):
    return w.sum() ** 2 / (w**2).sum()


def estimates(r, logged, target, clip, q=None, v=None, vlogged=None):
    raw = target / logged
    w = np.minimum(raw, clip)
    out = {
        "logged": r.mean(),
        "ips": (w * r).mean(),
        "snips": (w * r).sum() / w.sum(),
        "snips_difference": (w * r).sum() / w.sum() - r.mean(),
        "effective": kish(raw),
        "clipped": (raw > clip).mean(),
        "max_weight": raw.max(),
        "mean_weight": w.mean(),
    }
    if q is not None:
        out["dm"] = v.mean()
        out["dr"] = (v + w * (r - q)).mean()
        out["dr_difference"] = (v - vlogged + (w - 1) * (r - q)).mean()
    return {k: float(x) for k, x in out.items()}


def standard_errors(user, r, logged, target, clip, q, v, vlogged):
    """By users, from the influence of each user on the estimate."""
    _, at = np.unique(user, return_inverse=True)
    users = at.max() + 1
    w = np.minimum(target / logged, clip)

    def se(influence):
        by_user = np.bincount(at, influence, users)
        return float(np.sqrt(users / (users - 1) * (by_user**2).sum()) / len(r))

    snips = (w * r).sum() / w.sum()
    dr = v - vlogged + (w - 1) * (r - q)
    return {
        "snips": se(w * (r - snips) / w.mean()),
        "snips_difference": se(w * (r - snips) / w.mean() - (r - r.mean())),
        "dr_difference": se(dr - dr.mean()),
    }


def estimate(path):
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    user = np.array([row["user"] for row in rows])
    r, logged, target, q, v, vlogged = (np.array([float(row[c]) for row in rows]) for c in ("reward", "logged", "target", "q", "v", "vlogged"))
    return {
        name: estimates(r, logged, target, clip, q, v, vlogged) | {"se": standard_errors(user, r, logged, target, clip, q, v, vlogged)}
        for name, clip in CLIPS.items()
    }


def openbandit(folder):
    logs = {}
    for policy in ("random", "bts"):
        with gzip.open(f"{folder}/{policy}/women.csv.gz", "rt", newline="") as f:
            rows = list(csv.DictReader(f))
        item, position = (np.array([int(row[c]) for row in rows]) for c in ("item_id", "position"))
        click, propensity = (np.array([float(row[c]) for row in rows]) for c in ("click", "propensity_score"))
        counts = np.zeros((item.max() + 1, position.max() + 1))
        np.add.at(counts, (item, position), 1)
        logs[policy] = item, position, click, propensity, counts / np.maximum(counts.sum(0), 1)
    out = {}
    for source, judged in (("random", "bts"), ("bts", "random")):
        item, position, click, propensity, _ = logs[source]
        out[f"{source} to {judged}"] = estimates(click, propensity, logs[judged][4][item, position], 10.0) | {"observed": float(logs[judged][2].mean())}
    return out


if sys.argv[1] == "draw":
    draw()
else:
    print(json.dumps({"estimate": estimate, "openbandit": openbandit}[sys.argv[1]](sys.argv[2]), indent=1))
