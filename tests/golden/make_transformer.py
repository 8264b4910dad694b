#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference tensors for transformer layers and stacks of them, computed by PyTorch in float64.

  make_transformer.py OUT_DIR      writes every case into OUT_DIR/<case>.safetensors
  make_transformer.py --check DIR  makes them again and compares with DIR: inputs to the byte,
                                   results to 1e-12; prints what differs

Needs NumPy and PyTorch, 2.4 or later. Inputs and parameters are float32, results are float64,
computed in float64 from those float32 values by torch.nn.TransformerEncoderLayer and
TransformerDecoderLayer, or by the TransformerEncoder or TransformerDecoder of some such layers and
a norm at the end. Where the norms are torch.nn.RMSNorm, they take the places of the layers' own.

A case is a file of
  x, memory               float32 [B, L, E], [B, K, E]; memory in a decoder's alone
  lens, memory_lens       int64 [B]: later rows are padding (src_key_padding_mask and the like)
  output                  float64 [B, L, E]
  grad_output             float32 [B, L, E], the upstream gradient: 0 in rows of padding
  grad_x, grad_memory     float64, the gradients of sum(output * grad_output)
  and of every parameter, by PyTorch's name for it, "<name>" float32 and "grad_<name>" float64;
and of texts: norm_first, activation, causal, layer_norm_eps, nhead; of a stack num_layers too, and
of one with torch.nn.RMSNorm norm.
"""
import json
import math
import pathlib
import struct
import sys
import tempfile

import numpy as np
import torch

torch.set_default_dtype(torch.float64)

B, L, K, E, H, HIDDEN = 3, 5, 4, 12, 3, 20
LENS, MEMORY_LENS = [5, 2, 4], [1, 4, 3]

# A decoder is causal in its own rows.
CASES = [
    dict(name="encoder_norm_last_relu", seed=2000),
    dict(name="encoder_norm_last_gelu", seed=2001, activation="gelu", layer_norm_eps=1e-12),
    dict(name="encoder_norm_first_relu", seed=2002, norm_first=True, causal=True),
    dict(name="encoder_norm_first_gelu", seed=2003, norm_first=True, activation="gelu"),
    dict(name="decoder_norm_last_relu", seed=2004, causal=True),
    dict(name="decoder_norm_last_gelu", seed=2005, activation="gelu", causal=True),
    dict(name="decoder_norm_first_relu", seed=2006, norm_first=True, causal=True),
    dict(name="decoder_norm_first_gelu", seed=2007, norm_first=True, activation="gelu",
         causal=True, layer_norm_eps=1e-3),
    dict(name="encoder_stack_rms_norm", seed=2008, norm_first=True, activation="gelu",
         layer_norm_eps=1e-3, num_layers=2, norm="rms_norm"),
    dict(name="decoder_stack", seed=2009, norm_first=True, causal=True, num_layers=2),
    dict(name="decoder_stack_rms_norm", seed=2010, causal=True, num_layers=2, norm="rms_norm"),
]


def padding(lens, rows):
    """bool [B, rows]: true where a row is padding."""
    return torch.arange(rows)[None] >= torch.tensor(lens)[:, None]


def make_module(case, is_decoder, settings):
    """A layer, or, if the case says how many, a stack of such layers with a norm at the end."""
    kind = torch.nn.TransformerDecoderLayer if is_decoder else torch.nn.TransformerEncoderLayer
    layer = kind(E, H, HIDDEN, dropout=0.0, batch_first=True,
                 **{key: settings[key] for key in ("norm_first", "activation", "layer_norm_eps")})
    if "num_layers" not in case:
        return layer
    norm = torch.nn.RMSNorm if case.get("norm") == "rms_norm" else torch.nn.LayerNorm
    eps = settings["layer_norm_eps"]
    for name in [name for name, _ in layer.named_children() if name.startswith("norm")]:
        setattr(layer, name, norm(E, eps=eps))
    if is_decoder:
        return torch.nn.TransformerDecoder(layer, case["num_layers"], norm=norm(E, eps=eps))
    return torch.nn.TransformerEncoder(layer, case["num_layers"], norm=norm(E, eps=eps),
                                       enable_nested_tensor=False)


def make(case):
    """The tensors of a case by their names, and its texts."""
    rng = np.random.default_rng(case["seed"])

    def normal(*shape, scale=1.0, mean=0.0):
        return (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    settings = dict(norm_first=False, activation="relu", causal=False, layer_norm_eps=1e-5)
    settings.update({key: case[key] for key in settings if key in case})
    is_decoder = case["name"].startswith("decoder")
    module = make_module(case, is_decoder, settings)
    a = {"x": normal(B, L, E)}
    if is_decoder:
        a["memory"] = normal(B, K, E)
        a["memory_lens"] = np.array(MEMORY_LENS, np.int64)
    a["lens"] = np.array(LENS, np.int64)
    a["grad_output"] = normal(B, L, E) * ~padding(LENS, L).numpy()[..., None]
    for name, parameter in module.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        scale = 1 / math.sqrt(parameter.shape[1]) if parameter.ndim == 2 else 0.3
        a[name] = normal(*parameter.shape, scale=scale, mean=float(is_norm))
        with torch.no_grad():
            parameter.copy_(torch.tensor(a[name], dtype=torch.float64))

    inputs = {n: torch.tensor(a[n], dtype=torch.float64, requires_grad=True)
              for n in ("x", "memory") if n in a}
    # Booleans throughout: true hides a key.
    later = torch.ones(L, L, dtype=torch.bool).triu(1) if settings["causal"] else None
    if is_decoder:
        output = module(inputs["x"], inputs["memory"], tgt_mask=later,
                       tgt_key_padding_mask=padding(LENS, L),
                       memory_key_padding_mask=padding(MEMORY_LENS, K))
    else:
        # A layer calls the mask src_mask, a stack mask.
        output = module(inputs["x"], later, src_key_padding_mask=padding(LENS, L))
    (output * torch.tensor(a["grad_output"], dtype=torch.float64)).sum().backward()
    a["output"] = output.detach().numpy()
    for name, tensor in [*inputs.items(), *module.named_parameters()]:
        a["grad_" + name] = tensor.grad.numpy()
    for name, values in a.items():
        assert np.isfinite(values).all(), (case["name"], name)
    texts = {key: str(int(value)) if isinstance(value, bool) else str(value)
             for key, value in {**settings, **{key: case[key] for key in ("num_layers", "norm")
                                               if key in case}}.items()}
    return a, {**texts, "nhead": str(H)}


TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}


def save(path, tensors, texts):
    """https://github.com/huggingface/safetensors#format"""
    header, data = {"__metadata__": texts}, b""
    for name, x in tensors.items():
        kind = next(kind for kind, dtype in TYPES.items() if x.dtype == dtype)
        values = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<")).tobytes()
        header[name] = {"dtype": kind, "shape": list(x.shape),
                        "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path):
    raw = path.read_bytes()
    length, = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8:8 + length]), raw[8 + length:]
    texts = header.pop("__metadata__")
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])],
                                np.dtype(TYPES[entry["dtype"]]).newbyteorder("<"))
            .reshape(entry["shape"]) for name, entry in header.items()}, texts


def differences(made, kept):
    """What differs between two files of a case, a line each."""
    (a, made_texts), (b, kept_texts) = load(made), load(kept)
    if made_texts != kept_texts or a.keys() != b.keys():
        yield f"{kept.name}: other texts or names"
        return
    for name in a:
        x, y = a[name], b[name]
        if x.dtype != y.dtype or x.shape != y.shape:
            yield f"{kept.name}: {name} has another type or shape"
        elif x.dtype == np.float64:
            worst = np.abs(x - y).max() / max(1.0, np.abs(x).max())
            if not worst <= 1e-12:
                yield f"{kept.name}: {name} differs by {worst:.1e}"
        elif x.tobytes() != y.tobytes():
            yield f"{kept.name}: bytes of {name} differ"


def make_all(out):
    out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        save(out / (case["name"] + ".safetensors"), *make(case))


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        kept = pathlib.Path(arguments[1])
        with tempfile.TemporaryDirectory() as folder:
            make_all(pathlib.Path(folder))
            found = [line for case in CASES
                     for line in differences(pathlib.Path(folder) / (case["name"] + ".safetensors"),
                                             kept / (case["name"] + ".safetensors"))]
        print("\n".join(found + [f"{len(CASES)} cases, {len(found)} differences"]))
        return 1 if found else 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    make_all(pathlib.Path(arguments[0]))
    print(len(CASES), "cases in", arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
