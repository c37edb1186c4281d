"""Writes the tokens of many texts by Google's SentencePiece (pip install sentencepiece==0.2.3), as an independent source of
truth, with the vocabulary as llama.cpp's converter writes it into a GGUF file.

    pieces.py OUT.json [MODEL]

Without MODEL, a vocabulary of 700 tokens is trained on this repository's prompts with the settings of Llama 2:
pieces.json is that. Any tokenizer.model of BPE with byte fallback will do for MODEL; the tests also read the
files in the folder that R2REC_TEST_TOKENIZERS names.
"""
import glob
import io
import json
import os
import random
import sys

import sentencepiece as spm

here = os.path.dirname(os.path.abspath(__file__))
prompts = [open(p, encoding="utf-8", errors="ignore").read() for p in sorted(glob.glob(here + "/../../../iot/testdata/*.prompt.txt"))]
if len(sys.argv) > 2:
    model = {"model_file": sys.argv[2]}
else:
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(prompts).split("\n")), model_writer=out, model_type="bpe", vocab_size=700,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.99, num_threads=1, minloglevel=2)
    model = {"model_proto": out.getvalue()}
sp = spm.SentencePieceProcessor(**model)


def kind(i):
    if sp.is_unknown(i):
        return 2
    if sp.is_control(i):
        return 3
    if sp.is_unused(i):
        return 5
    return 6 if sp.is_byte(i) else 1


texts = ["", " ", "  ", "Hello", " Hello", "  Hello  world  ", "a\nb\n\n c\t d", "It's 12345 o'clock", "naïve café — 東京 😀", "▁a ▁▁ b▁",
         "<s>Hi</s><unk><0x41>", "A\x01B\x7f", "\ufffd e\u0301 👩‍👩‍👧", "=" * 70, " " * 70, "ab" * 100, *prompts]
parts = ["a", "e", "the", "Th", " ", " ", "  ", "\n", "1", "99", "(", "):", "é", "東", "😀", "▁", "movie", "like", "ing", "\t", "<s>", "\u00a0"]
dice = random.Random(1)
texts += ["".join(dice.choice(parts) for _ in range(dice.randrange(1, 30))) for _ in range(60)]
ids = range(sp.get_piece_size())
json.dump({
    "tokens": [sp.id_to_piece(i) for i in ids], "types": [kind(i) for i in ids], "scores": [sp.get_score(i) for i in ids],
    "bos": sp.bos_id(), "eos": sp.eos_id(), "unk": sp.unk_id(),
    "texts": [{"text": t, "tokens": sp.encode(t)} for t in texts],
}, open(sys.argv[1], "w"), ensure_ascii=False, indent=None, separators=(",", ":"))
