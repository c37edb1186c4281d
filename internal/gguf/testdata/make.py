"""Writes gguf-py.gguf with llama.cpp's own gguf package (pip install gguf==0.19.0), as an independent source of truth.

Each tensor TYPE holds the numbers of "source" in that type, TYPE.numbers what the package reads from it again. Types that
the package only reads hold blocks of random bits instead, whose scales alone are chosen: every bit of a layout counts.
"""
import sys

import gguf
import numpy as np

w = gguf.GGUFWriter(sys.argv[1], "llama")
for name, value in {"uint8": 200, "int8": -100, "uint16": 60000, "int16": -30000, "uint32": 4000000000, "int32": -2000000000,
                    "uint64": 2**64 - 1, "int64": -(2**63), "float32": 1.5, "float64": 0.1, "bool": True, "string": "Amélie"}.items():
    getattr(w, "add_" + name)("of." + name, value)
w.add_array("of.strings", ["", "a", "Ġthe"])
w.add_array("of.ints", [1, -2, 3])
w.add_array("of.floats", [0.5, -1e10])
w.add_array("of.bools", [True, False])
source = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
source[0, :32] = 0  # a block without a scale
source[1, 0] = 60000
w.add_tensor("source", source)
for t in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
    kind = gguf.GGMLQuantizationType[t]
    data = gguf.quantize(source, kind)
    w.add_tensor(t, data, raw_dtype=kind)
    w.add_tensor(t + ".numbers", gguf.dequantize(data, kind))
# By type: the offsets of the scales and minima of a block.
for t, halves in {"Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
                  "IQ4_NL": [0], "IQ4_XS": [0]}.items():
    kind = gguf.GGMLQuantizationType[t]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(2)
    blocks = random.integers(0, 256, size=(2 * 256 // values, size), dtype=np.uint8)
    for at in halves:
        blocks[:, at:at + 2] = random.normal(size=(len(blocks), 1)).astype(np.float16).view(np.uint8)
    data = blocks.reshape(2, -1)
    w.add_tensor(t, data, raw_dtype=kind)
    w.add_tensor(t + ".numbers", gguf.dequantize(data, kind))
w.add_tensor("IQ2_XS", np.zeros((2, 74), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ2_XS)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
