#!/usr/bin/env python3
"""Learns a LoRA adapter from what `r2rec train export` or `r2rec lm export` wrote, with Hugging Face's TRL and PEFT, on a
GPU or a CPU.

    python train.py sft  --export out --model MODEL.gguf --out fitted
    python train.py grpo --export out --model MODEL.gguf --out adapter --begin fitted
    r2rec adapters import adapter --model MODEL.gguf

sft fits on what users chose, each choice as often as it counts, read by lines, verdicts or letters as r2rec.json says: the
cross-entropy of the softmax over the candidates, which is what is served, and for letters and verdicts of answering with
one at all.
--also reads in another way too and learns both at once, the mean of the two losses. grpo samples groups of answers to each
prompt and rewards an answer by its doubly robust value (R2Rec, arXiv 2506.05069; GRPO, arXiv 2402.03300, with the constant
normaliser of arXiv 2503.20783). Both read the model from the very GGUF file that is served, and take no other. The folder
that comes out holds PEFT's files, r2rec.json, what the adapter answers (answers.jsonl, by which the import sees that it was
converted right), and how it went (training.json).
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import random
import shutil
import sys
import time


READOUTS = ["lines", "verdicts", "letters"]

NOTHING_TO_LEARN = 12  # exit code, as r2rec train has it


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("method", choices=["sft", "grpo"])
    p.add_argument("--export", required=True, type=pathlib.Path, help="folder of r2rec train export, or of r2rec lm export")
    p.add_argument("--model", required=True, type=pathlib.Path, help="the GGUF file that is served")
    p.add_argument("--out", required=True, type=pathlib.Path, help="folder of the adapter to make")
    p.add_argument("--begin", type=pathlib.Path, help="adapter to go on from, a folder as this makes")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--batch", type=int, default=32, help="decisions a step")
    p.add_argument("--at-once", type=int, default=8, help="sequences in memory at once; has to divide what a step holds")
    p.add_argument("--rate", type=float, help="of learning (default: 1e-3 for sft, 2e-4 for grpo)")
    p.add_argument("--rank", type=int, help="of a new adapter (default: 8)")
    p.add_argument("--base", choices=["float32", "bfloat16"], default="float32", help="how the model's own weights are held; bfloat16 rounds what is served, for a model too large otherwise")
    p.add_argument("--targets", nargs="+", help="layers that a new adapter changes (default: q_proj v_proj)")
    p.add_argument("--group", type=int, default=8, help="answers sampled to a prompt (grpo)")
    p.add_argument("--beta", type=float, default=0.04, help="weight of the KL divergence (grpo)")
    p.add_argument("--malformed", type=float, default=-1.0, help="reward of an answer that is none of the letters (grpo)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--also", choices=READOUTS, help="a second readout to learn along (sft); the same adapter for it is written to a folder of that name in --out")
    p.add_argument("--held", nargs="+", default=[], type=pathlib.Path, metavar="EXPORT", help="folders of cases to measure the adapter on in the end")
    a = p.parse_args()
    for name in ("steps", "batch", "at_once", "rank", "group"):
        if getattr(a, name) is not None and getattr(a, name) < 1:
            p.error(f"--{name.replace('_', '-')} {getattr(a, name)}: want 1 or more")
    if a.method == "grpo" and a.group < 2:
        p.error(f"--group {a.group}: an advantage is a difference from the group's mean: want 2 or more")
    in_a_step = a.batch * (a.group if a.method == "grpo" else 1)
    if in_a_step % a.at_once:
        p.error(f"--at-once {a.at_once}: has to divide the {in_a_step} sequences of a step")
    if a.also and a.method == "grpo":
        p.error("--also is for sft: only letters are sampled")
    if a.rate is None:
        a.rate = {"sft": 1e-3, "grpo": 2e-4}[a.method]
    if not 0 < a.rate < math.inf:
        p.error(f"--rate {a.rate}: want more than 0")
    if a.begin and (a.rank is not None or a.targets is not None):
        p.error("--rank and --targets are those of the adapter of --begin")
    a.rank, a.targets = a.rank or 8, a.targets or ["q_proj", "v_proj"]
    return a


def stop(message, code=1):
    print(f"train.py: {message}", file=sys.stderr)
    sys.exit(code)


def load_manifest(folder, digest):
    """What r2rec.json of an export or an adapter says; it has to be of the model of that digest."""
    try:
        manifest = json.loads((folder / "r2rec.json").read_text())
    except (OSError, ValueError) as e:
        stop(f"{folder}/r2rec.json: {e}: want a folder that r2rec train export, r2rec lm export or this wrote")
    if digest != manifest["base_digest"]:
        stop(f"--model has digest {digest[:12]}…, and {folder} is for {manifest['base_digest'][:12]}…: give the file that is served")
    return manifest


def load(export, digest):
    """An export: its manifest and rollouts. What cannot be learned from is an error that names the line."""
    manifest = load_manifest(export, digest)
    try:
        lines = (export / "rollouts.jsonl").open()
    except OSError as e:
        stop(f"{e}: want a folder that r2rec train export or r2rec lm export wrote")
    if manifest["readout"] not in READOUTS:
        stop(f"{export}: readout {manifest['readout']}: want one of {', '.join(READOUTS)}")
    rollouts = []
    for number, line in enumerate(lines, 1):
        try:
            r = json.loads(line)
        except ValueError as e:
            stop(f"{export}/rollouts.jsonl:{number}: {e}")
        n = len(r["completions"])
        if not (n > 1 and len(r["values"]) == n and -1 <= r["chosen"] < n and len(r.get("ends", r["values"])) == n):
            stop(f"{export}/rollouts.jsonl:{number}: {n} completions, {len(r['values'])} values, chosen {r['chosen']}, {len(r.get('ends', []))} lines")
        rollouts.append(r)
    if not rollouts:
        stop(f"{export}/rollouts.jsonl is empty")
    return manifest, rollouts


def read_alike(tokenizer, rollouts):
    """The rollouts whose prompts this tokenizer reads as the server does; stops where another vocabulary shows. It is made
    from the GGUF file, and differs for a sign here and there, such as ½ after a space; sft takes the tokens of the server."""
    alike, apart = [], []
    for r in rollouts:
        (alike if tokenizer(r["prompt"])["input_ids"] == r["prompt_tokens"] else apart).append(r)
    if len(apart) > len(rollouts) / 20:
        r = apart[0]
        ours = tokenizer(r["prompt"])["input_ids"]
        at = next((i for i, (x, y) in enumerate(zip(ours, r["prompt_tokens"])) if x != y), min(len(ours), len(r["prompt_tokens"])))
        stop(f"{len(apart)} of {len(rollouts)} prompts are read otherwise than on the server; of {r.get('decision_id') or r.get('case')}, token {at} is {ours[at:at + 3]} here and {r['prompt_tokens'][at:at + 3]} there")
    if apart:
        print(f"{len(apart)} of {len(rollouts)} prompts are read otherwise than on the server", flush=True)
    return alike


def some(rollouts, n):
    """At most n of them, from beginning to end."""
    return rollouts[:: -(-len(rollouts) // n)]


def readouts(a, manifest):
    """What is learned, and the folder of each."""
    first = manifest["readout"]
    return [(first, a.out)] + ([(a.also, a.out / a.also)] if a.also else [])


class Readout:
    """Scores the candidates of rollouts, as the server of that name does: lines and verdicts by the log-odds of yes against no
    where each candidate's line ends, letters by the logit of each letter where the prompt ends."""

    def __init__(self, name, tokenizer, rollouts):
        self.name, self.by_line = name, name != "letters"
        words = [" yes", " no"] if self.by_line else sorted({c for r in rollouts for c in r["completions"]})
        ids = [tokenizer(w, add_special_tokens=False)["input_ids"] for w in words]
        if any(len(i) != 1 for i in ids):
            stop(f"readout {name}: of {words}, some are more than one token of this model")
        if self.by_line and not all("ends" in r for r in rollouts):
            stop(f"readout {name}: the export does not say where the candidates' lines end: this model's vocabulary cannot read them")
        self.ids = [i[0] for i in ids]
        self.at = {w: i for i, w in enumerate(words)}

    def token(self, word):
        """The token of a completion."""
        return self.ids[self.at[word]]

    def scores(self, hidden, head, r):
        """hidden [tokens, width] of a rollout to the scores of its candidates, in their order."""
        rows = head.weight[self.ids].float()
        if self.by_line:
            z = hidden[r["ends"]].float() @ rows.T
            return z[:, 0] - z[:, 1]
        return (rows @ hidden[len(r["prompt_tokens"]) - 1].float())[[self.at[c] for c in r["completions"]]]

    def losses(self, hidden, head, batch):
        """The cross-entropies of what was chosen, in nats, one a rollout. Letters and verdicts are to be answers, too: what the
        model gives to other tokens is part of the loss, or a server that tells its likeliest tokens alone finds none there."""
        import torch

        if self.name == "letters":
            last = torch.stack([h[len(r["prompt_tokens"]) - 1] for h, r in zip(hidden, batch)]).float()
            chosen = torch.tensor([self.token(r["completions"][r["chosen"]]) for r in batch], device=last.device)
            return torch.nn.functional.cross_entropy(last @ head.weight.float().T, chosen, reduction="none")
        losses = torch.stack([-torch.log_softmax(self.scores(h, head, r), -1)[r["chosen"]] for h, r in zip(hidden, batch)])
        if self.name == "verdicts":
            rows = head.weight.float()
            ends = [h[r["ends"]].float() @ rows.T for h, r in zip(hidden, batch)]
            losses = losses + torch.stack([(z.logsumexp(-1) - z[:, self.ids].logsumexp(-1)).mean() for z in ends])
        return losses


def read(model, batch):
    """The hidden states of a batch, and the layer that turns them into logits. What stands behind a prompt to fill up its row
    is never looked at: a causal model's states depend on what stands before."""
    import torch

    longest = max(len(r["prompt_tokens"]) for r in batch)
    tokens = torch.tensor([r["prompt_tokens"] + [0] * (longest - len(r["prompt_tokens"])) for r in batch], device=model.device)
    inner = model.get_base_model()
    return inner.model(input_ids=tokens, use_cache=False).last_hidden_state, inner.lm_head


def model_of(a):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_float32_matmul_precision("high")
    where, name = str(a.model.resolve().parent), a.model.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=getattr(torch, a.base))
    # The weights are plain numbers from here on; that they came from a quantized file keeps nobody from training beside them.
    model.is_quantized, model.hf_quantizer = False, None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if a.begin:
        return tokenizer, PeftModel.from_pretrained(model, str(a.begin), is_trainable=True)
    return tokenizer, get_peft_model(model, LoraConfig(r=a.rank, lora_alpha=2 * a.rank, target_modules=a.targets, task_type="CAUSAL_LM"))


def common(a, sequences):
    """What both trainers are told alike."""
    import torch

    return dict(
        output_dir=str(a.out / "work"), max_steps=a.steps, per_device_train_batch_size=a.at_once, gradient_accumulation_steps=sequences // a.at_once,
        learning_rate=a.rate, lr_scheduler_type="cosine", warmup_steps=max(1, a.steps // 10), max_grad_norm=1.0, weight_decay=0.0, seed=a.seed, data_seed=a.seed,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=[], disable_tqdm=not sys.stderr.isatty(), use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(),
        gradient_checkpointing=False,
    )


def sft(a, tokenizer, model, rollouts, learned):
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    chosen = [r for r in rollouts if r["chosen"] >= 0]
    if not chosen:
        stop("in no exported decision was anything chosen", NOTHING_TO_LEARN)

    class ChoiceTrainer(SFTTrainer):
        """TRL's trainer with the losses of readouts."""

        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)  # whose order is that of epochs already

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            batch = [chosen[i] for i in inputs["row"]]
            with self.accelerator.autocast():
                hidden, head = read(self.accelerator.unwrap_model(model), batch)
            weights = torch.tensor([r["weight"] for r in batch], device=hidden.device)
            return torch.stack([weights * o.losses(hidden, head, batch) for o in learned]).mean()

    rng, order = random.Random(a.seed), []
    while len(order) < a.steps * a.batch:
        order += rng.sample(range(len(chosen)), len(chosen))  # an epoch
    config = SFTConfig(**common(a, a.batch), max_length=None, packing=False, shuffle_dataset=False, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True})
    rows = Dataset.from_list([{"row": i} for i in order[: a.steps * a.batch]])
    trainer = ChoiceTrainer(model=model, args=config, train_dataset=rows, data_collator=lambda rows: {"row": [r["row"] for r in rows]}, processing_class=tokenizer)
    trainer.model_accepts_loss_kwargs = False  # so the trainer divides by the parts of a step
    return trainer


def grpo(a, tokenizer, model, rollouts, learned):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    if learned[0].name != "letters":
        stop(f"readout {learned[0].name}: only letters are answers in words, which can be sampled; export with --readout letters")
    worth = [{"prompt": r["prompt"], "answers": r["completions"], "worth": r["values"]} for r in read_alike(tokenizer, rollouts)]  # TRL reads them itself
    if len(worth) < a.batch:  # of which it would make no step
        stop(f"{len(worth)} decisions to learn from, and --batch {a.batch}", NOTHING_TO_LEARN)

    def value(completion_ids, answers, worth, **_):  # by the very tokens that the server reads: "A" without a space is another
        token = learned[0].token
        table = [{token(c): v for c, v in zip(cs, vs)} for cs, vs in zip(answers, worth)]
        return [t.get(next(iter(ids), None), a.malformed) for ids, t in zip(completion_ids, table)]

    config = GRPOConfig(
        **common(a, a.batch * a.group), num_generations=a.group, max_completion_length=1, mask_truncated_completions=False, temperature=1.0, top_k=0, top_p=1.0,
        beta=a.beta, epsilon=0.2, epsilon_high=0.28, loss_type="dr_grpo", scale_rewards="none", num_iterations=1, remove_unused_columns=False,
    )
    return GRPOTrainer(model=model, reward_funcs=value, args=config, train_dataset=Dataset.from_list(worth), processing_class=tokenizer)


def shares(model, readout, rollouts, at_once):
    """The log-shares of the candidates of each rollout, as the readout serves them."""
    import torch

    model.eval()
    out = []
    for begin in range(0, len(rollouts), at_once):
        batch = rollouts[begin : begin + at_once]
        with torch.no_grad():
            hidden, head = read(model, batch)
            out += [torch.log_softmax(readout.scores(h, head, r), -1).tolist() for h, r in zip(hidden, batch)]
    return out


def answers(a, model, readout, rollouts, n=8):
    """The log-shares of a few prompts: what whoever serves the adapter has to find, too."""
    few, out = some(rollouts, n), []
    for r, s in zip(few, shares(model, readout, few, a.at_once)):
        inorder = sorted(zip(r["completions"], s))
        out.append({"prompt": r["prompt"], "completions": [c for c, _ in inorder], "log_shares": [x for _, x in inorder]})
    return out


def load_held(a, manifest, digest):
    """The cases of --held in which something was chosen, by folder: what is wrong with them is told before anything is learned."""
    out = {}
    for folder in a.held:
        if folder.name in {f.name for f in out}:
            stop(f"--held {folder}: another folder has that name too, by which its scores are written")
        other, cases = load(folder, digest)
        if other["prompt_version"] != manifest["prompt_version"]:
            stop(f"--held {folder}: prompts of version {other['prompt_version']}, and what is learned from are of version {manifest['prompt_version']}")
        out[folder] = [r for r in cases if r["chosen"] >= 0]
        if not out[folder]:
            stop(f"--held {folder}: in none of its cases was anything chosen")
    return out


def measure(a, model, learned, held):
    """What the adapter does on held-out cases: how often the chosen one stands first, and the cross-entropy in nats."""
    out = []
    for folder, cases in held.items():
        for readout in learned:
            name, logs = readout.name, shares(model, readout, cases, a.at_once)
            first = [s[r["chosen"]] >= max(s) for r, s in zip(cases, logs)]
            found = {"held": str(folder), "readout": name, "cases": len(cases), "hit_rate_at_1": sum(first) / len(first), "cross_entropy": -sum(s[r["chosen"]] for r, s in zip(cases, logs)) / len(cases)}
            print(f"{folder}, {name}: HR@1 {found['hit_rate_at_1']:.3f}, cross-entropy {found['cross_entropy']:.3f} nats, {len(cases)} cases", flush=True)
            out.append(found)
            (a.out / f"scores-{folder.name}-{name}.jsonl").write_text("".join(json.dumps({"case": r.get("case"), "chosen": r["chosen"], "log_shares": s}) + "\n" for r, s in zip(cases, logs)))
    return out


def main():
    a = arguments()
    try:
        digest = hashlib.sha256(a.model.read_bytes()).hexdigest()
    except OSError as e:
        stop(f"--model: {e}")
    if a.out.exists() and any(a.out.iterdir()):
        stop(f"--out {a.out}: there are files already; name a new folder")
    manifest, rollouts = load(a.export, digest)
    if a.begin:
        begun_by = load_manifest(a.begin, digest)
        before = [m.pop("learned_before", 0) for m in (manifest, begun_by)]
        if all(before):  # the gate judges by what neither was taught; where one does not say, r2rec adapters import asks
            manifest["learned_before"] = max(before)
        learned = [m.pop("learned_events") for m in (manifest, begun_by) if "learned_events" in m]
        if learned:  # r2rec eval asks about nothing earlier; of two, as r2rec has it, the one that reaches further
            manifest["learned_events"] = max(learned, key=lambda e: e["before"])
    held = load_held(a, manifest, digest)
    if a.also == manifest["readout"]:
        stop(f"--also {a.also}: that is the export's own readout already")
    import torch

    if torch.cuda.device_count() > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        stop(f"there are {torch.cuda.device_count()} GPUs and {os.environ.get('WORLD_SIZE', 1)} processes: it learns on one GPU in one; set CUDA_VISIBLE_DEVICES=0")
    torch.manual_seed(a.seed)
    tokenizer, model = model_of(a)
    learned = [Readout(name, tokenizer, [*rollouts, *(r for cases in held.values() for r in cases)]) for name, _ in readouts(a, manifest)]
    if a.method == "sft":
        read_alike(tokenizer, some(rollouts, 500))
    trainer = {"sft": sft, "grpo": grpo}[a.method](a, tokenizer, model, rollouts, learned)
    begun = time.time()
    trainer.train()
    took = time.time() - begun
    history = trainer.state.log_history
    for step in history:
        for name, value in step.items():
            if isinstance(value, float) and not math.isfinite(value):
                shutil.rmtree(a.out / "work", ignore_errors=True)
                stop(f"step {step.get('step')}: {name} is {value}: nothing was written; try a lower --rate")
    if trainer.state.global_step < a.steps:
        stop(f"it ended after {trainer.state.global_step} of {a.steps} steps: nothing was written")

    model = trainer.accelerator.unwrap_model(trainer.model)
    manifest.update(seed=a.seed, steps=a.steps, note=f"learned by {a.method} in TRL")
    for readout, (name, folder) in zip(learned, readouts(a, manifest)):
        model.save_pretrained(str(folder), selected_adapters=["default"])  # GRPO keeps a copy of where it began beside it
        with (folder / "answers.jsonl").open("w") as f:
            for answer in answers(a, model, readout, rollouts):
                f.write(json.dumps(answer) + "\n")
        (folder / "r2rec.json").write_text(json.dumps(manifest | {"readout": name}, indent=2) + "\n")
    last = next((h for h in reversed(history) if "loss" in h), {})
    print(f"{a.method}: {a.steps} steps of {a.batch} decisions in {took:.0f} s on {model.device}; " + ", ".join(f"{k} {v:.4g}" for k, v in last.items() if k in ("loss", "reward", "kl", "entropy", "grad_norm")), flush=True)
    found = measure(a, model, learned, held)
    (a.out / "training.json").write_text(json.dumps({"method": a.method, "rollouts": len(rollouts), "seconds": took, "device": str(model.device), "held": found, "history": history}, indent=1) + "\n")
    shutil.rmtree(a.out / "work", ignore_errors=True)  # where TRL would keep checkpoints


if __name__ == "__main__":
    main()
