#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small models of other libraries, as those write them, and what they compute in float64.

  make_checkpoints_golden.py OUT_DIR      writes every case into OUT_DIR/<case>
  make_checkpoints_golden.py --check DIR  makes them again and compares with DIR: weights to the
                                          byte, results to 1e-12; prints what differs

Needs PyTorch, transformers, safetensors and keras (2.15, 5.24, 0.8 and 3.15 wrote the committed
files; KERAS_BACKEND=torch is set below). A case is a folder of
  model.safetensors    the weights, float32, by the library's own writer and names; or an index of
                       several such files
  config.json          of the models of transformers
  expected.safetensors ids int64 [B, L] or x float32 [B, L, E], lens int64 [B] (what is later is
                       padding), and float64 results: output, and pooled or logits
Weights are random numbers large enough for every one of them to be seen in the results. Llama and
Qwen take their norms and angles in float32 whatever the model's type is: theirs are good to 1e-6.
"""
import filecmp
import math
import os
import pathlib
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
import transformers

transformers.logging.set_verbosity_error()
B, L, E, H, HIDDEN, V = 2, 5, 8, 2, 12, 11
LENS = [5, 3]
SIZES = dict(hidden_size=E, num_hidden_layers=2, num_attention_heads=H, intermediate_size=HIDDEN,
             vocab_size=V, max_position_embeddings=9)
SPECIAL = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)


def draw(name, shape, rng):
    is_norm = "norm" in name.lower() or "ln_" in name or ".ln." in name
    if len(shape) > 1:
        return rng.standard_normal(shape).astype(np.float32) / np.float32(math.sqrt(E) / 1.5)
    return (rng.standard_normal(shape) * 0.3 + (is_norm and name.endswith("weight"))).astype(
        np.float32)


def fill(module, seed):
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.tensor(draw(name, tuple(parameter.shape), rng)))
    return module.eval()


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hugging_face(folder, model, seed, is_causal=False, **saving):
    """Filled, saved as its users save it, and run in float64."""
    model.save_pretrained(fill(model, seed) and folder, **saving)
    for other in ("generation_config.json",):
        (folder / other).unlink(missing_ok=True)
    ids = torch.tensor(np.random.default_rng(seed + 1).integers(3, V, (B, L)))
    mask = torch.ones(B, L, dtype=torch.long)
    if not is_causal:
        mask = (torch.arange(L)[None] < torch.tensor(LENS)[:, None]).long()
    with torch.no_grad():
        out = model.double()(input_ids=ids, attention_mask=mask)
    expected = {"ids": ids.numpy()}
    if is_causal:
        expected["logits"] = out.logits.numpy()
        return expected
    expected["lens"] = np.array(LENS, np.int64)
    for name in ("last_hidden_state", "logits", "pooler_output"):
        if getattr(out, name, None) is not None:
            key = {"last_hidden_state": "output", "logits": "logits", "pooler_output": "pooled"}
            expected[key[name]] = getattr(out, name).numpy()
    return expected


def bert(folder):
    config = transformers.BertConfig(**SIZES, pad_token_id=0, attn_implementation="eager")
    return hugging_face(folder, transformers.BertModel(config), 10)


def roberta(folder):
    config = transformers.RobertaConfig(**SIZES, pad_token_id=1, attn_implementation="eager")
    model = transformers.RobertaForMaskedLM(config)
    expected = hugging_face(folder, model, 20)
    mask = (torch.arange(L)[None] < torch.tensor(LENS)[:, None]).long()
    with torch.no_grad():
        out = model.roberta(input_ids=torch.tensor(expected["ids"]), attention_mask=mask)
    del expected["logits"]
    return {**expected, "output": out.last_hidden_state.numpy()}


def distilbert(folder):
    config = transformers.DistilBertConfig(dim=E, n_layers=2, n_heads=H, hidden_dim=HIDDEN,
                                           vocab_size=V, max_position_embeddings=9,
                                           attn_implementation="eager")
    return hugging_face(folder, transformers.DistilBertModel(config), 30)


def mpnet(folder):
    config = transformers.MPNetConfig(**SIZES, attn_implementation="eager")
    return hugging_face(folder, transformers.MPNetModel(config), 40)


def gpt2(folder):
    config = transformers.GPT2Config(n_embd=E, n_layer=2, n_head=H, n_positions=9, vocab_size=V,
                                     n_inner=HIDDEN, attn_implementation="eager", **SPECIAL)
    return hugging_face(folder, transformers.GPT2LMHeadModel(config), 50, is_causal=True)


def llama(folder):
    """Heads that share keys and values, of a size that is not E / H; in three files."""
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=1, head_dim=6,
                                      attn_implementation="eager", **SPECIAL)
    return hugging_face(folder, transformers.LlamaForCausalLM(config), 60, is_causal=True,
                        max_shard_size="3KB")


def qwen2(folder):
    config = transformers.Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True,
                                      attn_implementation="eager", **SPECIAL)
    return hugging_face(folder, transformers.Qwen2ForCausalLM(config), 70, is_causal=True)


def padding():
    return torch.arange(L)[None] >= torch.tensor(LENS)[:, None]


def save_torch(folder, module):
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(module.state_dict(), folder / "model.safetensors")


def torch_attention(folder, **sizes):
    module = fill(torch.nn.MultiheadAttention(E, H, batch_first=True, **sizes), 80)
    save_torch(folder, module)
    x, k, v = numbers(81, B, L, E), numbers(82, B, L, sizes.get("kdim", E)), \
        numbers(83, B, L, sizes.get("vdim", E))
    with torch.no_grad():
        out, _ = module.double()(*(torch.tensor(y, dtype=torch.float64) for y in (x, k, v)),
                                 key_padding_mask=padding())
    return {"x": x, "keys": k, "values": v, "lens": np.array(LENS, np.int64),
            "output": out.numpy()}


def torch_attention_separate(folder):
    return torch_attention(folder, kdim=5, vdim=7)


def torch_encoder(folder):
    layer = torch.nn.TransformerEncoderLayer(E, H, HIDDEN, activation="gelu", batch_first=True,
                                             norm_first=True)
    module = fill(torch.nn.TransformerEncoder(layer, 2, norm=torch.nn.LayerNorm(E),
                                              enable_nested_tensor=False), 90)
    save_torch(folder, module)
    x = numbers(91, B, L, E)
    with torch.no_grad():
        out = module.double()(torch.tensor(x, dtype=torch.float64), src_key_padding_mask=padding())
    return {"x": x, "lens": np.array(LENS, np.int64), "output": out.numpy()}


def keras_attention(folder):
    layer = keras.layers.MultiHeadAttention(num_heads=H, key_dim=3, name="attention")
    layer.build((B, L, E), (B, L, E))
    rng = np.random.default_rng(100)
    weights = {w.path: draw("kernel", tuple(w.shape), rng) for w in layer.weights}
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    exact = keras.layers.MultiHeadAttention(num_heads=H, key_dim=3, dtype="float64")
    exact.build((B, L, E), (B, L, E))
    exact.set_weights([weights[w.path].astype(np.float64) for w in layer.weights])
    x = numbers(101, B, L, E)
    out = exact(x.astype(np.float64), x.astype(np.float64),
                attention_mask=~padding().numpy()[:, None, :].repeat(L, 1))
    return {"x": x, "lens": np.array(LENS, np.int64),
            "output": keras.ops.convert_to_numpy(out.detach())}


class D2lAttention(torch.nn.Module):
    """The layer of Dive into Deep Learning, section 11.5, by its names and its formulas."""

    def __init__(self):
        super().__init__()
        self.W_q, self.W_k, self.W_v, self.W_o = (torch.nn.Linear(E, E, bias=False)
                                                  for _ in range(4))

    def forward(self, x, hidden):
        q, k, v = (W(x).reshape(B, L, H, -1).transpose(1, 2)
                   for W in (self.W_q, self.W_k, self.W_v))
        scores = q @ k.transpose(2, 3) / math.sqrt(E / H)
        weights = scores.masked_fill(hidden[:, None, None], -1e6).softmax(-1)
        return self.W_o((weights @ v).transpose(1, 2).reshape(B, L, E))


class D2lAddNorm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = torch.nn.LayerNorm(E)

    def forward(self, x, y):
        return self.ln(y + x)


class D2lFeedForward(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense1, self.dense2 = torch.nn.Linear(E, HIDDEN), torch.nn.Linear(HIDDEN, E)

    def forward(self, x):
        return self.dense2(self.dense1(x).relu())


class D2lBlock(torch.nn.Module):
    """Section 11.7."""

    def __init__(self):
        super().__init__()
        self.attention, self.addnorm1 = D2lAttention(), D2lAddNorm()
        self.ffn, self.addnorm2 = D2lFeedForward(), D2lAddNorm()

    def forward(self, x, hidden):
        y = self.addnorm1(x, self.attention(x, hidden))
        return self.addnorm2(y, self.ffn(y))


class D2lEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, E)
        self.blks = torch.nn.Sequential()
        for i in range(2):
            self.blks.add_module(f"block{i}", D2lBlock())

    def forward(self, ids, hidden):
        x = self.embedding(ids) * math.sqrt(E)
        angles = torch.arange(L, dtype=x.dtype)[:, None] / 10000 ** (
            torch.arange(0, E, 2, dtype=x.dtype) / E)
        x = x + torch.stack([angles.sin(), angles.cos()], -1).reshape(L, E)
        for block in self.blks:
            x = block(x, hidden)
        return x


def d2l_encoder(folder):
    module = fill(D2lEncoder(), 110)
    save_torch(folder, module)
    ids = torch.tensor(np.random.default_rng(111).integers(0, V, (B, L)))
    with torch.no_grad():
        out = module.double()(ids, padding())
    return {"ids": ids.numpy(), "lens": np.array(LENS, np.int64), "output": out.numpy()}


CASES = [bert, roberta, distilbert, mpnet, gpt2, llama, qwen2, torch_attention,
         torch_attention_separate, torch_encoder, keras_attention, d2l_encoder]


def make_all(out):
    for case in CASES:
        folder = out / case.__name__
        expected = case(folder)
        assert all(np.isfinite(x).all() for x in expected.values()), case.__name__
        safetensors.numpy.save_file({n: np.ascontiguousarray(x) for n, x in expected.items()},
                                    folder / "expected.safetensors")


def differences(made, kept):
    for path in sorted(made.rglob("*.safetensors")):
        other = kept / path.relative_to(made)
        if path.name != "expected.safetensors":
            if not other.exists() or not filecmp.cmp(path, other, shallow=False):
                yield f"{other}: other bytes"
            continue
        a, b = safetensors.numpy.load_file(path), safetensors.numpy.load_file(other)
        for name in a:
            if a[name].shape != b[name].shape or not np.abs(a[name] - b[name]).max() <= 1e-12:
                yield f"{other}: {name} differs"


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        with tempfile.TemporaryDirectory() as folder:
            make_all(pathlib.Path(folder))
            found = list(differences(pathlib.Path(folder), pathlib.Path(arguments[1])))
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
