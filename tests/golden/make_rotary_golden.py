#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference tensors for rotary position embedding.

  make_rotary_golden.py OUT_DIR     writes every case into OUT_DIR/<case>/

Needs NumPy; with the package `onnx` (1.23, Apache-2.0), also the node cases of its operator
RotaryEmbedding, made by that package's own code. A case is a folder of .npy files:
  onnx_*     float32: x, cos, sin, y, and positions, int64, where there are any. The tables are
             arbitrary numbers, not those of any angles.
  layer      a causal layer with grouped heads that rotates 4 of 6 numbers of a head: x and weights
             float32, y float64
  others     frequencies and attention_factor, float64, and y, float64 [2, 2, 3, 32], made of x,
             float32, whose sequences begin at the positions `first`; in the way of the function of
             that name in Hugging Face's transformers (modeling_rope_utils.py), in float64
"""
import math
import pathlib
import sys

import numpy as np

SIZE, BASE = 32, 10000.0


def frequencies(size, base):
    return 1.0 / base ** (np.arange(0, size, 2, dtype=np.float64) / size)


def rotate(x, w, positions, factor=1.0, interleaved=False):
    """x: [..., T, D], positions: [..., T]."""
    half = len(w)
    angles = positions[..., None].astype(np.float64) * w
    cos, sin = factor * np.cos(angles), factor * np.sin(angles)
    y = x.astype(np.float64)
    a = slice(0, 2 * half, 2) if interleaved else slice(0, half)
    b = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
    y[..., a] = x[..., a] * cos - x[..., b] * sin
    y[..., b] = x[..., b] * cos + x[..., a] * sin
    return y


def yarn(factor, original, fast=32, slow=1, truncate=True):
    def dim_of(turns):
        return SIZE * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(BASE))

    low, high = dim_of(fast), dim_of(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, SIZE - 1)
    ramp = np.clip((np.arange(SIZE // 2) - low) / (high - low), 0, 1)
    w = frequencies(SIZE, BASE)
    return w / factor * ramp + w * (1 - ramp)


def mscale_of(factor, mscale=1.0):
    return 0.1 * mscale * math.log(factor) + 1.0


def llama3(factor, low, high, original):
    w = frequencies(SIZE, 500000.0)
    wavelength = 2 * math.pi / w
    scaled = np.where(wavelength > original / low, w / factor, w)
    smooth = (original / wavelength - low) / (high - low)
    smoothed = (1 - smooth) * scaled / factor + smooth * scaled
    medium = ~(wavelength < original / high) * ~(wavelength > original / low)
    return np.where(medium, smoothed, scaled)


def scalings():
    """(name, frequencies, attention factor, interleaved)"""
    w = frequencies(SIZE, BASE)
    ntk = SIZE / (SIZE - 2)
    yield "plain", w, 1.0, False
    yield "interleaved", w, 1.0, True
    yield "partial", frequencies(12, BASE), 1.0, False
    yield "partial_interleaved", frequencies(12, BASE), 1.0, True
    yield "linear", w / 4, 1.0, False
    yield "ntk", frequencies(SIZE, BASE * 8**ntk), 1.0, False
    yield "dynamic_ntk", frequencies(SIZE, BASE * (2 * 4096 / 2048 - 1) ** ntk), 1.0, False
    yield "yarn", yarn(4, 4096), mscale_of(4), False
    yield "yarn_untruncated", yarn(40, 4096, truncate=False), mscale_of(40, 0.7) / mscale_of(
        40, 0.3), True
    yield "llama3", llama3(8, 1, 4, 8192), 1.0, False


def layer(rng):
    B, T, E, H, G, D = 2, 9, 24, 4, 2, 6
    a = {"x": rng.standard_normal((B, T, E))}
    for name, rows in (("q", H * D), ("k", G * D), ("v", G * D), ("o", E)):
        columns = H * D if name == "o" else E
        a["W_" + name] = rng.standard_normal((rows, columns)) / math.sqrt(columns) * 1.5
        a["b_" + name] = rng.standard_normal(rows) * 0.3
    a = {name: x.astype(np.float32) for name, x in a.items()}
    f = {name: x.astype(np.float64) for name, x in a.items()}

    def heads(name, count):
        y = f["x"] @ f["W_" + name].T + f["b_" + name]
        return y.reshape(B, T, count, D).transpose(0, 2, 1, 3)

    w, positions = frequencies(4, BASE), np.arange(T)
    q, k = (rotate(heads(n, c), w, positions) for n, c in (("q", H), ("k", G)))
    k, v = (np.repeat(x, H // G, axis=1) for x in (k, heads("v", G)))
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D)
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = (p / p.sum(axis=-1, keepdims=True)) @ v
    y = y.transpose(0, 2, 1, 3).reshape(B, T, H * D) @ f["W_o"].T + f["b_o"]
    return a | {"y": y}


def onnx_cases():
    import importlib
    module = importlib.import_module("onnx.backend.test.case.node.rotaryembedding")
    found = []
    module.expect = lambda node, inputs, outputs, name: found.append((name, inputs, outputs))
    for name in sorted(vars(module.RotaryEmbedding)):
        if name.startswith("export"):
            np.random.seed(0)
            getattr(module.RotaryEmbedding, name)()
    names = ("x", "cos", "sin", "positions")
    for name, inputs, outputs in found:
        yield "onnx" + name.removeprefix("test_rotary_embedding"), dict(
            zip(names, inputs)) | {"y": outputs[0]}


def main(out):
    def save(case, arrays):
        folder = pathlib.Path(out) / case
        folder.mkdir(parents=True, exist_ok=True)
        for name, x in arrays.items():
            assert np.isfinite(x).all(), (case, name)
            np.save(folder / (name + ".npy"), np.ascontiguousarray(x))

    rng = np.random.default_rng(3000)
    x = rng.standard_normal((2, 2, 3, SIZE)).astype(np.float32)
    first = np.array([0, 1001])
    positions = first[:, None, None] + np.arange(3)
    save("scalings", {"x": x, "first": first})
    for name, w, factor, interleaved in scalings():
        save(name, {"frequencies": w, "attention_factor": np.array([factor]),
                    "y": rotate(x, w, positions, factor, interleaved)})
    save("layer", layer(rng))
    try:
        cases = list(onnx_cases())
    except ImportError:
        print("without the package onnx: its cases are not made")
        return
    for name, arrays in cases:
        save(name, arrays)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
