#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What other libraries make of the same attention, by their own defaults: for README's table of
differences, every row of which is compared by tests/peers_test.cpp.

  make_peers.py OUT.safetensors

Needs NumPy, PyTorch 2.5 or later, Keras 3, transformers 5, and d2l 1.0.3 (installed without what it
depends on, and matplotlib, pandas, requests); results are of torch 2.15, keras 3.15 and transformers
5.24. Everything is computed in float64 from float32 inputs and weights.
  x [B, Q, E], memory [B, K, E], and W_q, W_k, W_v, W_o [E, E] and b_q, b_k, b_v, b_o [E], by PyTorch's
  layout, which all peers are given in theirs; hidden [Q, K], of booleans, and lens [B] = 5, 2.
  torch_*, keras_*, bert_*, d2l_*: see below. In the metadata: what a peer's default is.
"""
import os
import sys
import types


os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file


class Absent(types.ModuleType):
    """Stands for what d2l imports and attention does not use."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")


for module in ("torchvision", "torchvision.transforms", "gym", "scipy", "scipy.spatial"):
    try:
        __import__(module)
    except ImportError:
        sys.modules[module] = Absent(module)

from d2l import torch as d2l  # noqa: E402

torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
B, Q, K, E, H = 2, 3, 5, 8, 2
D = E // H
LENS = [5, 2]


def main(out):
    generator = torch.Generator().manual_seed(4711)

    def random(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).float()

    t = {"x": random(B, Q, E), "memory": random(B, K, E)}
    for name in "qkvo":
        t[f"W_{name}"], t[f"b_{name}"] = random(E, E, scale=0.5), random(E, scale=0.5)
    # Query 1 sees nothing.
    t["hidden"] = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]], dtype=torch.bool)
    t["lens"] = torch.tensor(LENS)
    d = {name: value.double() for name, value in t.items() if value.dtype == torch.float32}
    text = {}

    # ---- torch.nn.MultiheadAttention ----
    layer = torch.nn.MultiheadAttention(E, H, batch_first=True).eval()
    text["torch_bias"] = str(layer.in_proj_bias is not None)
    text["torch_batch_first"] = str(torch.nn.MultiheadAttention(E, H).batch_first)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([d["W_q"], d["W_k"], d["W_v"]]))
        layer.in_proj_bias.copy_(torch.cat([d["b_q"], d["b_k"], d["b_v"]]))
        layer.out_proj.weight.copy_(d["W_o"])
        layer.out_proj.bias.copy_(d["b_o"])
        padding = torch.arange(K)[None] >= t["lens"][:, None]  # true: padding
        t["torch_padding"], t["torch_padding_weights"] = layer(
            d["x"], d["memory"], d["memory"], key_padding_mask=padding)
        t["torch_hidden"], _ = layer(d["x"], d["memory"], d["memory"], attn_mask=t["hidden"])
        heads = lambda y, n: y.reshape(B, n, H, D).transpose(1, 2)
        q = heads(d["x"] @ d["W_q"].T + d["b_q"], Q)
        k = heads(d["memory"] @ d["W_k"].T + d["b_k"], K)
        v = heads(d["memory"] @ d["W_v"].T + d["b_v"], K)
        merge = lambda y: y.transpose(1, 2).reshape(B, Q, E) @ d["W_o"].T + d["b_o"]
        t["sdpa_seen"] = merge(F.scaled_dot_product_attention(q, k, v, attn_mask=~t["hidden"]))
        t["sdpa_causal"] = merge(F.scaled_dot_product_attention(q, k, v, is_causal=True))

    # ---- keras.layers.MultiHeadAttention ----
    layer = keras.layers.MultiHeadAttention(num_heads=H, key_dim=D)
    x, memory = d["x"].numpy(), d["memory"].numpy()
    layer(x, memory)
    text["keras_bias"] = str(len(layer.weights) == 8)
    layer.set_weights(
        [part for name in "qkv" for part in (d[f"W_{name}"].T.reshape(E, H, D).numpy(),
                                             d[f"b_{name}"].reshape(H, D).numpy())]
        + [d["W_o"].T.reshape(H, D, E).numpy(), d["b_o"].numpy()])
    with torch.no_grad():
        seen = (~t["hidden"]).numpy()
        out_, weights = layer(x, memory, attention_mask=seen[None].repeat(B, 0),
                              return_attention_scores=True)
        t["keras_seen"], t["keras_seen_weights"] = out_.detach(), weights.detach()
    text["keras_layer_norm_eps"] = repr(keras.layers.LayerNormalization().epsilon)
    text["torch_layer_norm_eps"] = repr(torch.nn.LayerNorm(E).eps)
    text["bert_layer_norm_eps"] = repr(transformers.BertConfig().layer_norm_eps)
    numbers = torch.linspace(-4, 4, 33)
    t["numbers"] = numbers.float()
    numbers = t["numbers"].double()
    t["torch_gelu"] = F.gelu(numbers)
    t["keras_gelu"] = keras.activations.gelu(numbers)
    for name in ("gelu", "gelu_new"):
        t[f"hf_{name}"] = transformers.activations.ACT2FN[name](numbers)

    # ---- transformers: BERT's attention ----
    config = transformers.BertConfig(hidden_size=E, num_attention_heads=H, vocab_size=10,
                                     num_hidden_layers=1, intermediate_size=E)
    config._attn_implementation = "eager"
    bert = transformers.BertModel(config).double().eval()
    attention = bert.encoder.layer[0].attention
    text["bert_bias"] = str(attention.self.query.bias is not None)
    with torch.no_grad():
        for name, part in zip("qkv", ("query", "key", "value")):
            getattr(attention.self, part).weight.copy_(d[f"W_{name}"])
            getattr(attention.self, part).bias.copy_(d[f"b_{name}"])
        attention.output.dense.weight.copy_(d["W_o"])
        attention.output.dense.bias.copy_(d["b_o"])
        real = (torch.arange(K)[None] < t["lens"][:, None]).long()  # 1: real
        mask = (1.0 - real[:, None, None, :].double()) * torch.finfo(torch.float64).min
        found = attention.self(d["memory"], attention_mask=mask)
        t["bert_real"] = attention.output.dense(found[0])
        t["bert_real_weights"] = found[1]
        # The same tokens, padded on the left.
        left = d["memory"].clone()
        left[1] = torch.cat([d["memory"][1, 2:], d["memory"][1, :2]])
        found = attention.self(left, attention_mask=mask.flip(-1))
        t["bert_left"], t["bert_left_mask"] = attention.output.dense(found[0]), real.flip(-1)
        t["memory_left"] = left.float()

    # ---- d2l.MultiHeadAttention ----
    layer = d2l.MultiHeadAttention(E, H, 0.0).eval()
    layer(d["x"], d["memory"], d["memory"], t["lens"])  # which makes its lazy weights
    text["d2l_parameters"] = " ".join(name for name, _ in layer.named_parameters())
    with torch.no_grad():
        for name in "qkvo":
            getattr(layer, f"W_{name}").weight.copy_(d[f"W_{name}"])
        t["d2l_lens"] = layer(d["x"], d["memory"], d["memory"], t["lens"])
        t["d2l_lens_weights"] = layer.attention.attention_weights.reshape(B, H, Q, K)
        layer(d["x"], d["memory"], d["memory"], torch.tensor([0, 2]))
        t["d2l_empty_weights"] = layer.attention.attention_weights.reshape(B, H, Q, K)[0]

    text["versions"] = f"torch {torch.__version__.split('+')[0]}, keras {keras.__version__}, " \
                       f"transformers {transformers.__version__}"
    save_file({name: value.contiguous() for name, value in t.items()}, out, text)
    for name, value in sorted(text.items()):
        print(f"{name}: {value}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
