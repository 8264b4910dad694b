#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference tensors for the modules around attention, computed by PyTorch in float64.

  make_modules_golden.py OUT_DIR    writes every case into OUT_DIR/<case>/

Needs NumPy and PyTorch. Inputs and weights are float32, results are float64, computed in float64
from those float32 values. A case is a folder of .npy files:
  additive, additive_2d   Dive into Deep Learning's AdditiveAttention (section 11.3), valid_lens [B]
                          and [B, Q]: queries, keys, values, W_q, W_k, w_v, valid_lens; output,
                          weights; grad_output and grad_* of sum(output * grad_output)
  embedding               torch.nn.Embedding with padding_idx=1: ids, weight; output; grad_output,
                          grad_weight
  pooling                 x [B, L, E], lens; mean, max; grad_output, grad_mean and grad_max, of x
  normalize               torch.nn.functional.normalize, of a row shorter than eps too: x; output;
                          grad_output, grad_x
"""
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F


def normal(generator, *shape, scale=1.0):
    return (generator.standard_normal(shape) * scale).astype(np.float32)


def leaves(arrays):
    """Each as a float64 tensor that collects a gradient."""
    return {n: torch.tensor(x, dtype=torch.float64, requires_grad=True) for n, x in arrays.items()}


def gradients(tensors, output, grad_output):
    (output * torch.tensor(grad_output, dtype=torch.float64)).sum().backward()
    found = {"grad_" + n: x.grad.numpy().copy() for n, x in tensors.items()}
    for x in tensors.values():
        x.grad = None
    return found


def additive(generator, valid_lens):
    lens = np.array(valid_lens, np.int64)
    b, q, k, h, v = 2, 3, 7, 6, 5
    inputs = {
        "queries": normal(generator, b, q, 4),
        "keys": normal(generator, b, k, 3),
        "values": normal(generator, b, k, v),
        "W_q": normal(generator, h, 4, scale=0.6),
        "W_k": normal(generator, h, 3, scale=0.6),
        "w_v": normal(generator, 1, h, scale=1.5),
    }
    grad_output = normal(generator, b, q, v)
    t = leaves(inputs)
    features = torch.tanh(F.linear(t["queries"], t["W_q"]).unsqueeze(2)
                          + F.linear(t["keys"], t["W_k"]).unsqueeze(1))
    scores = F.linear(features, t["w_v"]).squeeze(-1)
    hidden = torch.arange(k) >= torch.tensor(lens).reshape(b, -1, 1)
    weights = torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1)
    output = torch.bmm(weights, t["values"])
    return inputs | {"valid_lens": lens, "grad_output": grad_output,
                     "output": output.detach().numpy(), "weights": weights.detach().numpy(),
                     **gradients(t, output, grad_output)}


def embedding(generator):
    ids = generator.integers(0, 6, (2, 9))
    ids[0, 3] = ids[1, 8] = 1
    weight, grad_output = normal(generator, 6, 5), normal(generator, 2, 9, 5)
    table = torch.nn.Embedding(6, 5, padding_idx=1, dtype=torch.float64)
    table.load_state_dict({"weight": torch.tensor(weight, dtype=torch.float64)})
    output = table(torch.tensor(ids))
    grad = gradients({"weight": table.weight}, output, grad_output)
    return {"ids": ids.astype(np.int64), "weight": weight, "output": output.detach().numpy(),
            "grad_output": grad_output, **grad}


def pooling(generator):
    x, lens, grad_output = normal(generator, 3, 6, 5), np.array([6, 2, 1]), normal(generator, 3, 5)
    t = leaves({"x": x})
    counts = torch.arange(6).reshape(1, 6, 1) < torch.tensor(lens).reshape(3, 1, 1)
    mean = (t["x"] * counts).sum(1) / torch.tensor(lens).reshape(3, 1)
    grad_mean = gradients(t, mean, grad_output)["grad_x"]
    maximum = t["x"].masked_fill(~counts, -torch.inf).max(1).values
    grad_max = gradients(t, maximum, grad_output)["grad_x"]
    return {"x": x, "lens": lens.astype(np.int64), "mean": mean.detach().numpy(),
            "max": maximum.detach().numpy(), "grad_output": grad_output, "grad_mean": grad_mean,
            "grad_max": grad_max}


def normalize(generator):
    x, grad_output = normal(generator, 4, 19), normal(generator, 4, 19)
    x[2] *= np.float32(1e-14)
    t = leaves({"x": x})
    output = F.normalize(t["x"], dim=-1)
    return {"x": x, "output": output.detach().numpy(), "grad_output": grad_output,
            **gradients(t, output, grad_output)}


CASES = {
    "additive": lambda g: additive(g, [7, 2]),
    "additive_2d": lambda g: additive(g, [[1, 7, 3], [2, 5, 6]]),
    "embedding": embedding,
    "pooling": pooling,
    "normalize": normalize,
}


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    for number, (name, make) in enumerate(CASES.items()):
        folder = pathlib.Path(arguments[0]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for n, x in make(np.random.default_rng(2000 + number)).items():
            assert np.isfinite(x).all(), (name, n)
            np.save(folder / (n + ".npy"), np.ascontiguousarray(x))
    print(len(CASES), "cases in", arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
