#!/usr/bin/env python3
"""Learns a LoRA adapter from what `r2rec train export` wrote, with Hugging Face's TRL and PEFT, on a GPU or a CPU.

    python train.py sft  --export out --model MODEL.gguf --out fitted
    python train.py grpo --export out --model MODEL.gguf --out adapter --begin fitted
    r2rec adapters import adapter --model MODEL.gguf

sft fits on what users chose, each choice drawn as often as it counts. grpo samples groups of answers to each prompt and
rewards an answer by its doubly robust value (R2Rec, arXiv 2506.05069; GRPO, arXiv 2402.03300, with the constant
normaliser of arXiv 2503.20783). Both read the model from the very GGUF file that is served, and stop where its tokens are
not those that the server reads. The folder that comes out holds PEFT's files, r2rec.json, what the adapter answers
(answers.jsonl, by which the import sees that it was converted right), and how it went (training.json).
"""

import argparse
import hashlib
import json
import math
import pathlib
import random
import shutil
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("method", choices=["sft", "grpo"])
    p.add_argument("--export", required=True, type=pathlib.Path, help="folder of r2rec train export")
    p.add_argument("--model", required=True, type=pathlib.Path, help="the GGUF file that is served")
    p.add_argument("--out", required=True, type=pathlib.Path, help="folder of the adapter to make")
    p.add_argument("--begin", type=pathlib.Path, help="adapter to go on from, a folder as this makes")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--batch", type=int, default=32, help="decisions a step")
    p.add_argument("--at-once", type=int, default=8, help="sequences in memory at once; has to divide what a step holds")
    p.add_argument("--rate", type=float, help="of learning (default: 1e-3 for sft, 2e-4 for grpo)")
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--targets", nargs="+", default=["q_proj", "v_proj"], help="layers that the adapter changes")
    p.add_argument("--group", type=int, default=8, help="answers sampled to a prompt (grpo)")
    p.add_argument("--beta", type=float, default=0.04, help="weight of the KL divergence (grpo)")
    p.add_argument("--malformed", type=float, default=-1.0, help="reward of an answer that is none of the letters (grpo)")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    for name in ("steps", "batch", "at_once", "rank", "group"):
        if getattr(a, name) < 1:
            p.error(f"--{name.replace('_', '-')} {getattr(a, name)}: want 1 or more")
    if a.method == "grpo" and a.group < 2:
        p.error(f"--group {a.group}: an advantage is a difference from the group's mean: want 2 or more")
    in_a_step = a.batch * (a.group if a.method == "grpo" else 1)
    if in_a_step % a.at_once:
        p.error(f"--at-once {a.at_once}: has to divide the {in_a_step} sequences of a step")
    a.rate = a.rate or {"sft": 1e-3, "grpo": 2e-4}[a.method]
    return a


def stop(message):
    sys.exit(f"train.py: {message}")


def load(a):
    """The export: its manifest and rollouts. What cannot be learned from is an error that names the line."""
    manifest = json.loads((a.export / "r2rec.json").read_text())
    digest = hashlib.sha256(a.model.read_bytes()).hexdigest()
    if digest != manifest["base_digest"]:
        stop(f"--model {a.model} has digest {digest[:12]}…, and the decisions were made by {manifest['base_digest'][:12]}…: give the file that is served")
    rollouts = []
    for number, line in enumerate((a.export / "rollouts.jsonl").open(), 1):
        r = json.loads(line)
        n = len(r["completions"])
        if not (n > 1 and len(r["values"]) == n and len(r["reference"]) == n and -1 <= r["chosen"] < n):
            stop(f"rollouts.jsonl:{number}: {n} completions, {len(r['values'])} values, chosen {r['chosen']}")
        rollouts.append(r)
    if not rollouts:
        stop(f"{a.export}/rollouts.jsonl is empty")
    return manifest, rollouts


def read_alike(tokenizer, rollouts):
    """Stops where the tokenizer does not read the prompts and answers as the server does."""
    for r in rollouts:
        ours = tokenizer(r["prompt"])["input_ids"]
        if ours != r["prompt_tokens"]:
            at = next((i for i, (x, y) in enumerate(zip(ours, r["prompt_tokens"])) if x != y), min(len(ours), len(r["prompt_tokens"])))
            stop(f"decision {r['decision_id']}: token {at} of the prompt is {ours[at:at + 3]} here and {r['prompt_tokens'][at:at + 3]} on the server")
    for answer in {c for r in rollouts for c in r["completions"]}:
        if len(tokenizer(answer, add_special_tokens=False)["input_ids"]) != 1:
            stop(f"the answer {answer!r} is more than one token of this model")


def letters(tokenizer, r):
    return [tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in r["completions"]]


def model_of(a):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    where, name = str(a.model.resolve().parent), a.model.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=kind)
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
        logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=not sys.stderr.isatty(), use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(),
        gradient_checkpointing=False,
    )


def sft(a, tokenizer, model, rollouts):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    chosen = [r for r in rollouts if r["chosen"] >= 0]
    if not chosen:
        stop("in no exported decision was anything chosen")
    drawn = random.Random(a.seed).choices(chosen, weights=[r["weight"] for r in chosen], k=a.steps * a.batch)
    rows = [{"input_ids": r["prompt_tokens"] + [letters(tokenizer, r)[r["chosen"]]], "completion_mask": [0] * len(r["prompt_tokens"]) + [1]} for r in drawn]
    config = SFTConfig(**common(a, a.batch), max_length=None, packing=False, completion_only_loss=True, shuffle_dataset=False)
    return SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def grpo(a, tokenizer, model, rollouts):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    worth = [{"prompt": r["prompt"], "answers": r["completions"], "worth": r["values"]} for r in rollouts]

    def value(completions, answers, worth, **_):
        table = [{c.strip(): v for c, v in zip(cs, vs)} for cs, vs in zip(answers, worth)]
        return [t.get(c.strip(), a.malformed) for c, t in zip(completions, table)]

    config = GRPOConfig(
        **common(a, a.batch * a.group), num_generations=a.group, max_completion_length=1, mask_truncated_completions=False, temperature=1.0, top_k=0, top_p=1.0,
        beta=a.beta, epsilon=0.2, epsilon_high=0.28, loss_type="dr_grpo", scale_rewards="none", num_iterations=1, remove_unused_columns=False,
    )
    return GRPOTrainer(model=model, reward_funcs=value, args=config, train_dataset=Dataset.from_list(worth), processing_class=tokenizer)


def answers(tokenizer, model, rollouts, n=8):
    """The log-shares of the letters of a few prompts: what whoever serves the adapter has to find, too."""
    import torch

    model.eval()
    out = []
    for r in rollouts[:: max(1, len(rollouts) // n)][:n]:
        with torch.no_grad():
            logits = model(torch.tensor([r["prompt_tokens"]], device=model.device)).logits[0, -1].float()
        inorder = sorted(r["completions"])
        shares = torch.log_softmax(logits[[tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in inorder]], -1)
        out.append({"prompt": r["prompt"], "completions": inorder, "log_shares": shares.tolist()})
    return out


def main():
    a = arguments()
    manifest, rollouts = load(a)
    import torch

    torch.manual_seed(a.seed)
    tokenizer, model = model_of(a)
    read_alike(tokenizer, rollouts)
    trainer = {"sft": sft, "grpo": grpo}[a.method](a, tokenizer, model, rollouts)
    begun = time.time()
    trainer.train()
    took = time.time() - begun
    history = trainer.state.log_history
    for step in history:
        for name, value in step.items():
            if isinstance(value, float) and not math.isfinite(value):
                stop(f"step {step.get('step')}: {name} is {value}: nothing was written; try a lower --rate")

    a.out.mkdir(parents=True, exist_ok=True)
    model = trainer.model
    model.save_pretrained(str(a.out), selected_adapters=["default"])  # GRPO keeps a copy of where it began beside it
    with (a.out / "answers.jsonl").open("w") as f:
        for answer in answers(tokenizer, model, rollouts):
            f.write(json.dumps(answer) + "\n")
    manifest.update(seed=a.seed, steps=a.steps, note=f"learned by {a.method} in TRL")
    (a.out / "r2rec.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (a.out / "training.json").write_text(json.dumps({"method": a.method, "rollouts": len(rollouts), "seconds": took, "device": str(model.device), "history": history}, indent=1) + "\n")
    shutil.rmtree(a.out / "work", ignore_errors=True)  # where TRL would keep checkpoints
    last = next((h for h in reversed(history) if "loss" in h), {})
    print(f"{a.method}: {a.steps} steps of {a.batch} decisions in {took:.0f} s on {model.device}; " + ", ".join(f"{k} {v:.4g}" for k, v in last.items() if k in ("loss", "reward", "kl", "entropy", "grad_norm")))


if __name__ == "__main__":
    main()
