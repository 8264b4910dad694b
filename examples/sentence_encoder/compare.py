#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How far the vectors of sentence_encoder, and PyTorch's own in float32, are from PyTorch's in float64.

  compare.py PROGRAM MODEL      e.g. compare.py build/release/examples/sentence_encoder build/all-MiniLM-L6-v2

On 200 texts of 0 to 256 tokens, some of which are cut off. Needs NumPy, PyTorch, transformers and
tokenizers. The model's vectors are the means of its tokens, of length 1.
"""
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

MAX_TOKENS = 256


def make_texts(folder):
    random.seed(1)
    words = [w for w in (folder / "vocab.txt").read_text(encoding="utf-8").split("\n") if w.isalpha()]
    lengths = [0, 1] + [random.randint(0, 300) if i % 3 else random.randint(1, 40) for i in range(198)]
    return [" ".join(random.choice(words) for _ in range(n)) for n in lengths]


def embed(folder, ids, dtype):
    model = transformers.AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    with torch.no_grad():
        means = [model(torch.tensor([i])).last_hidden_state[0].mean(0) for i in ids]
    return torch.nn.functional.normalize(torch.stack(means), dim=1).double().numpy()


def main(program, model):
    transformers.logging.set_verbosity_error()
    folder = pathlib.Path(model)
    texts = make_texts(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    ids = [tokenizer.encode(text).ids for text in texts]
    with tempfile.TemporaryDirectory() as temporary:
        lines, out = pathlib.Path(temporary, "texts"), pathlib.Path(temporary, "out.npy")
        lines.write_text("\n".join(texts) + "\n", encoding="utf-8")
        subprocess.run([program, "embed", lines, "--model", model, "--out", out], check=True)
        ours = np.load(out).astype(np.float64)
    exact = embed(folder, ids, torch.float64)
    single = embed(folder, ids, torch.float32)
    lengths = np.array([len(i) for i in ids])
    for name, which in (("all texts", lengths >= 0), ("texts with words", lengths > 2)):
        a, b = np.abs(ours - exact)[which], np.abs(single - exact)[which]
        print(f"{name}: largest difference {a.max():.3g}, PyTorch's in float32 {b.max():.3g} "
              f"({a.max() / b.max():.2f}x); mean {a.mean():.3g} and {b.mean():.3g} "
              f"({a.mean() / b.mean():.2f}x)")


if __name__ == "__main__":
    main(*sys.argv[1:])
