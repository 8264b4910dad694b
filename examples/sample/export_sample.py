#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes this folder: a small attention layer trained by PyTorch, an input and what torch computes.

  export_sample.py [OUT_DIR]      (default: the folder of this script; takes half a minute)

Needs NumPy, safetensors and PyTorch, 1.13 (Debian's python3-torch) or any 2.x. Everything is
seeded, but another version of PyTorch rounds differently and so ends with somewhat different
weights.

The task gives five heads five different things to look for. A query token has to name, from the
other sentence, which has most of the words in another order:
  the same word; the words at its own position, one before it and one after it; the first word.
In the first half of the training head i may write to the numbers of answer i only; the second half
trains every weight.
"""
import math
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file

EMBED, HEADS, CODE = 100, 5, 20  # five codes of 20 numbers are one output
STEPS, BATCH, LONGEST = 600, 64, 16

# Queries and keys: mostly the same words, in another order. The second pair's keys are padded.
PAIRS = [("after dinner the old captain read a long letter to his daughter",
          "the old captain read to his daughter a long letter after dinner tonight again"),
         ("in the morning small birds sing while the rain falls very softly",
          "small birds sing in the morning while rain falls softly")]
PAD = "<pad>"


def positions(length):
    """The sinusoids of Vaswani et al. (2017), section 3.5: [length, EMBED]."""
    angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, EMBED, 2) / EMBED)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class Embedding(torch.nn.Module):
    """Words and positions. Not trained: the layer has to work with what it is given."""

    def __init__(self, words):
        super().__init__()
        self.words = torch.nn.Embedding(words, EMBED, padding_idx=0).requires_grad_(False)

    def forward(self, tokens):
        return self.words(tokens) + positions(tokens.shape[1])


def random_batch(words):
    """Sentences of random words padded with 0, [B, K], and their lengths, [B]; and queries [B, Q]:
    three of four are words of that sentence, in another order."""
    lens = torch.randint(6, LONGEST + 1, (BATCH,))
    keys = torch.randint(1, words, (BATCH, LONGEST))
    keys[torch.arange(LONGEST) >= lens[:, None]] = 0
    pick = (torch.rand(BATCH, LONGEST) * lens[:, None]).long()
    queries = torch.where(torch.rand(BATCH, LONGEST) < 0.75, keys.gather(1, pick),
                          torch.randint(1, words, (BATCH, LONGEST)))
    return queries, keys, lens


def answers(queries, keys, lens):
    """What each query has to name, [B, Q, 5]: PAD for a word that the other sentence does not have,
    -100 (not asked) for a position outside of it."""
    same = queries * (queries[:, :, None] == keys[:, None, :]).any(-1)
    found = [same]
    for shift in 0, -1, 1:
        at = (torch.arange(queries.shape[1]) + shift).expand_as(queries)
        word = keys.gather(1, at.clamp(0, keys.shape[1] - 1))
        found.append(torch.where((at >= 0) & (at < lens[:, None]), word, torch.tensor(-100)))
    return torch.stack(found + [keys[:, :1].expand_as(queries)], -1)


def hidden_keys(keys, lens):
    return torch.arange(keys.shape[1]) >= lens[:, None]


def train(layer, embed, words):
    codes = 4 * torch.nn.functional.normalize(torch.randn(words, CODE), dim=1)
    layer.in_proj_weight.data[EMBED:2 * EMBED] = layer.in_proj_weight.data[:EMBED]  # k = q
    own_question = torch.block_diag(*[torch.ones(CODE, CODE)] * HEADS)
    adam = torch.optim.Adam(layer.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for step in range(STEPS):
        queries, keys, lens = random_batch(words)
        wanted = answers(queries, keys, lens)
        k = embed(keys)
        output = layer(embed(queries), k, k, key_padding_mask=hidden_keys(keys, lens))[0]
        logits = output.unflatten(2, (5, CODE)) @ codes.T  # [B, Q, 5, words]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2), wanted.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step < STEPS // 2:
            layer.out_proj.weight.data *= own_question
        if step % 100 == 0 or step == STEPS - 1:
            right = (logits.argmax(-1) == wanted)[wanted >= 0].float().mean()
            print(f"step {step:4}  loss {loss.item():.3f}  right {right.item():.3f}", flush=True)


def main(out):
    torch.manual_seed(2017)
    sentences = [sentence.split() for pair in PAIRS for sentence in pair]
    vocabulary = [PAD] + sorted({word for sentence in sentences for word in sentence})
    embed = Embedding(len(vocabulary))
    layer = torch.nn.MultiheadAttention(EMBED, HEADS, dropout=0.5, bias=True, batch_first=True)
    layer.eval()  # no dropout, in training neither: it would hide the one key that a head looks at
    train(layer, embed, len(vocabulary))

    def batch(of):
        longest = max(map(len, of))
        return torch.tensor([[vocabulary.index(w) for w in s + [PAD] * (longest - len(s))]
                             for s in of])

    queries, keys = batch(sentences[0::2]), batch(sentences[1::2])
    lens = torch.tensor([len(s) for s in sentences[1::2]])
    with torch.no_grad():
        q, k = embed(queries), embed(keys)
        parameters = {n: p.clone() for n, p in layer.state_dict().items()}
        layer.double()  # from here on in float64, from the same float32 numbers
        output, attention = layer(q.double(), k.double(), k.double(),
                                  key_padding_mask=hidden_keys(keys, lens),
                                  average_attn_weights=False)

    (out / "weights").mkdir(parents=True, exist_ok=True)
    for name, x in parameters.items():
        np.save(out / "weights" / (name + ".npy"), x.numpy())
    save_file(parameters, out / "layer.safetensors")
    arrays = dict(queries=q, keys=k, values=k, valid_lens=lens, expected_output=output.float(),
                  expected_attention=attention.float())
    for name, x in arrays.items():
        np.save(out / (name + ".npy"), x.numpy())
    for name, sentence in ("query", sentences[0]), ("key", sentences[1]):
        (out / (name + "_labels.txt")).write_text("\n".join(sentence) + "\n")
    for head in range(HEADS):
        best = attention[0, head].argmax(-1)
        print(f"head {head}:", *(f"{w}>{sentences[1][j]}({attention[0, head, i, j]:.2f})"
                                 for i, (w, j) in enumerate(zip(sentences[0], best.tolist()))))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
