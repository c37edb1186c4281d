"""How fast PyTorch trains what `r2rec bench train` trains: LoRA on the query and value layers, float32, on the processor.

r2rec runs this by itself and prints the ratio where the Python that --python names (default python3) has the packages:

    python3 -m venv venv
    venv/bin/pip install torch==2.8.0 --index-url https://download.pytorch.org/whl/cpu
    venv/bin/pip install transformers==4.56.1 peft==0.17.1
    r2rec bench train --model SmolLM2-135M-Instruct.Q4_1.gguf --python venv/bin/python

Its one argument is the work as JSON (peers.LoRA in pytorch.go). The model has that shape and random weights: the speed
does not depend on them. The loss is the cross-entropy of each text's last tokens, and only their logits are computed, as
in r2rec. Prints one JSON object; exit code 3 says that a package is missing.
"""

import json
import statistics
import sys
import time

try:
    import peft
    import torch
    import transformers
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)


def main():
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=work["vocabulary"],
            hidden_size=work["dim"],
            num_hidden_layers=work["layers"],
            num_attention_heads=work["heads"],
            num_key_value_heads=work["kv_heads"],
            head_dim=work["head_dim"],
            intermediate_size=work["feed_forward"],
            tie_word_embeddings=work["tied"],
            max_position_embeddings=work["tokens"],
        )
    ).float()
    model = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=work["rank"],
            lora_alpha=2 * work["rank"],
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
        ),
    )
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    answer = work["answer"]
    took = []
    for _ in range(1 + work["steps"]):
        tokens = torch.randint(work["vocabulary"], (work["batch"], work["tokens"]))
        start = time.perf_counter()
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=answer + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, -answer:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        took.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "tokens_per_second": work["batch"] * work["tokens"] / statistics.median(took[1:]),
                "versions": f"PyTorch {torch.__version__}, PEFT {peft.__version__}",
            }
        )
    )


main()
