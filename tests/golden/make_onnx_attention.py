#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ONNX's node cases of its operator Attention (opsets 23 to 25), for tests/onnx_attention_test.cpp.

  make_onnx_attention.py OUT.safetensors [FOLDER]

Needs NumPy and the package `onnx` (1.23.2, Apache-2.0), by whose own code they are made. With FOLDER,
also compares them to <case>/<name>.npy there: inputs must be the same, and outputs, which depend a
little on how NumPy multiplies matrices on this machine, to rounding.

Each text of the metadata is a case: words "name value", where the value of an attribute is a number and
that of an input or an output the name of its tensor. Tensors that several cases share are there once.
present_key and present_value are not there: they are the past's rows and the new ones, one below the
other, which is asserted here.
"""
import importlib
import json
import pathlib
import struct
import sys

import ml_dtypes
import numpy as np

TYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16",
         np.dtype(ml_dtypes.bfloat16): "BF16", np.dtype(np.bool_): "BOOL",
         np.dtype(np.int64): "I64"}
EPS = {"F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}


def cases():
    """(name, attributes, tensors by their names in the operator)"""
    module = importlib.import_module("onnx.backend.test.case.node.attention")
    found = []

    def expect(node, inputs, outputs, name, opset_imports=None, **_):
        attributes = {a.name: a.f if a.type == a.FLOAT else a.i for a in node.attribute}
        attributes["opset"] = opset_imports[0].version
        names = [n for n in list(node.input) + list(node.output) if n]
        arrays = [np.asarray(x) for x in [*inputs, *outputs]]
        assert len(names) == len(arrays), name
        found.append((name.removeprefix("test_attention_"), attributes, dict(zip(names, arrays))))

    module.expect = expect
    for export in sorted(vars(module.Attention)):
        if export.startswith("export"):
            np.random.seed(0)
            getattr(module.Attention, export)()
    return sorted(found, key=lambda case: case[0])


def without_present(name, attributes, tensors):
    for of, x in (("key", "K"), ("value", "V")):
        present = tensors.pop("present_" + of, None)
        if present is None:
            continue
        new = tensors[x]
        if new.ndim == 3:
            B, rows, columns = new.shape
            heads = attributes["kv_num_heads"]
            new = new.reshape(B, rows, heads, columns // heads).transpose(0, 2, 1, 3)
        past = tensors["past_" + of]
        assert (present == np.concatenate([past, new], axis=2)).all(), name


def compare(folder, name, tensors):
    for tensor, x in tensors.items():
        there = np.load(folder / ("test_attention_" + name) / (tensor + ".npy"))
        assert there.shape == x.shape, (name, tensor)
        a, b = x.astype(np.float64), there.astype(np.float64)
        is_output = tensor in ("Y", "qk_matmul_output")
        bound = 64 * EPS[TYPES[x.dtype]] if is_output else 0
        assert np.allclose(a, b, rtol=bound, atol=bound / 64, equal_nan=True), (name, tensor)


def main(out, folder=None):
    entries, texts, data, known = {}, {}, b"", {}
    for name, attributes, tensors in cases():
        without_present(name, attributes, tensors)
        if folder:
            compare(pathlib.Path(folder), name, tensors)
        words = [f"{key} {value!r}" for key, value in sorted(attributes.items())]
        for tensor, x in tensors.items():
            key = (x.dtype.str, x.shape, x.tobytes())
            if key not in known:
                known[key] = str(len(known))
                end = len(data) + x.nbytes
                entries[known[key]] = {"dtype": TYPES[x.dtype], "shape": list(x.shape),
                                       "data_offsets": [len(data), end]}
                data += np.ascontiguousarray(x).tobytes()
            words.append(f"{tensor} {known[key]}")
        texts[name] = " ".join(words)
    header = json.dumps({"__metadata__": texts, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    pathlib.Path(out).write_bytes(struct.pack("<Q", len(header)) + header + data)
    print(f"{len(texts)} cases, {len(known)} tensors, {8 + len(header) + len(data)} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
