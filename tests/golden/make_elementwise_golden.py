#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference tensors for norms and activations, computed by PyTorch in float64.

  make_elementwise_golden.py OUT_DIR      writes the .npy files into OUT_DIR
  make_elementwise_golden.py --check DIR  makes them again and compares with DIR: inputs to the byte,
                                          results to 1e-12; prints what differs

Needs NumPy and PyTorch 2.4 or newer (RMSNorm). Inputs are float32, results float64, computed in
float64 from those float32 values.

  x, grad_y               float32 [3, 7, 37], the first with a mean of 3; weight, bias: float32 [37]
  <norm>                  float64 [3, 7, 37] for layer_norm and rms_norm (eps 1e-5)
  <norm>_grad_x, _grad_weight, _grad_bias    the gradients of sum(norm(x) * grad_y)
  numbers, grad_numbers   float32 [257], from -9 to 9, with 0
  <activation>, <activation>_grad            float64 [257] for gelu, gelu_tanh, silu, relu, tanh
"""
import pathlib
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
EPS = 1e-5
INPUTS = ("x", "grad_y", "weight", "bias", "numbers", "grad_numbers")
ACTIVATIONS = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
               "silu": F.silu, "relu": F.relu, "tanh": torch.tanh}


def make_inputs():
    rng = np.random.default_rng(2000)
    a = {"x": 3 + rng.standard_normal((3, 7, 37)), "grad_y": rng.standard_normal((3, 7, 37)),
         "weight": 1 + 0.3 * rng.standard_normal(37), "bias": 0.3 * rng.standard_normal(37),
         "numbers": np.linspace(-9, 9, 257), "grad_numbers": rng.standard_normal(257)}
    return {name: x.astype(np.float32) for name, x in a.items()}


def add_results(a):
    def leaf(name):
        return torch.tensor(a[name], dtype=torch.float64, requires_grad=True)

    def gradients(y, grad_y, **leaves):
        (y * torch.tensor(a[grad_y], dtype=torch.float64)).sum().backward()
        return {name: x.grad.numpy() for name, x in leaves.items()}

    size = a["x"].shape[-1:]
    x, weight, bias = leaf("x"), leaf("weight"), leaf("bias")
    y = F.layer_norm(x, size, weight, bias, EPS)
    results = {"layer_norm": y.detach().numpy(),
               **gradients(y, "grad_y", layer_norm_grad_x=x, layer_norm_grad_weight=weight,
                           layer_norm_grad_bias=bias)}
    x, weight = leaf("x"), leaf("weight")
    y = F.rms_norm(x, size, weight, EPS)
    results |= {"rms_norm": y.detach().numpy(),
                **gradients(y, "grad_y", rms_norm_grad_x=x, rms_norm_grad_weight=weight)}
    for name, function in ACTIVATIONS.items():
        x = leaf("numbers")
        y = function(x)
        results |= {name: y.detach().numpy(), **gradients(y, "grad_numbers", **{name + "_grad": x})}
    a.update(results)


def make(out):
    a = make_inputs()
    add_results(a)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for name, x in a.items():
        assert np.isfinite(x).all(), name
        np.save(pathlib.Path(out) / (name + ".npy"), np.ascontiguousarray(x))


def check(folder):
    with tempfile.TemporaryDirectory() as again:
        make(again)
        made = {p.name for p in pathlib.Path(again).iterdir()}
        kept = {p.name for p in pathlib.Path(folder).iterdir()}
        different = sorted(made ^ kept)
        for name in sorted(made & kept):
            x, y = (np.load(pathlib.Path(f) / name) for f in (again, folder))
            same = np.array_equal(x, y) if name[:-4] in INPUTS else (
                x.shape == y.shape and np.allclose(x, y, rtol=1e-12, atol=1e-14))
            different += [] if same else [name]
    print("the same" if not different else "different: " + ", ".join(different))
    return 1 if different else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        sys.exit(check(sys.argv[2]))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(sys.argv[1])
