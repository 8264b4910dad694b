#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tiny models of three families, in folders as Hugging Face and sentence-transformers write them, and
what `transformers` makes of some texts with them, in float64.

  make_sentence_encoder.py OUT_DIR        writes OUT_DIR/bert, roberta and distilbert
  make_sentence_encoder.py --check DIR    makes them again and compares with DIR: files to the byte,
                                          results to 1e-12; prints what differs

Needs NumPy, PyTorch, transformers 5 and safetensors. A folder holds
  config.json, model.safetensors          as save_pretrained of transformers writes them
  expected.safetensors    ids             int64 [N], of all texts one after the other
                          lengths         int64 [B], of each text, with special tokens
                          hidden          float64 [N, hidden_size], of the last layer
                          mean, unit      float64 [B, hidden_size]: the mean of a text's tokens, and the
                                          same of length 1
and bert/ also what a sentence encoder needs: vocab.txt, tokenizer_config.json, modules.json,
1_Pooling/config.json, sentence_bert_config.json, and
                          texts           in texts.txt, one a line, of which the ids are
Weights are float32; the results are computed in float64 from them.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import (BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig,
                          RobertaModel)

PIECES = ("[PAD] [UNK] [CLS] [SEP] [MASK] the a cat dog kitten sleep ##s ##ing ##ed on in sofa bed is was "
          "not river bank money run ##ner fast slow . , ! ? ' - s t un ##believ ##able ##ly b c d").split()
TEXTS = ["the cat sleeps on the sofa .", "a kitten is sleeping in bed", "", "unbelievably fast !",
         "money in the bank", "The river bank", "dogs run , cats sleep", "zebra",
         "the dog runs fast . the cat is slow . the kitten was not sleeping", "a"]
MAX_TOKENS = 12


def wordpiece(word):
    pieces, at = [], 0
    while at < len(word):
        for end in range(len(word), at, -1):
            piece = ("##" if at else "") + word[at:end]
            if piece in PIECES:
                pieces.append(piece)
                at = end
                break
        else:
            return ["[UNK]"]
    return pieces


def ids_of(text):  # the texts have spaces around punctuation
    pieces = [p for word in text.lower().split() for p in wordpiece(word)][:MAX_TOKENS - 2]
    return [PIECES.index(p) for p in ["[CLS]", *pieces, "[SEP]"]]


def make_model(kind, config):
    torch.manual_seed(7)
    model = kind(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # not the tiny ones that training begins with
            p.copy_(torch.randn_like(p) * (0.4 if p.ndim == 2 else 0.1) + (0 if p.ndim == 2 else 0.1))
    return model


def save(folder, model, texts):
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for name in ("transformers_version", "dtype"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    model = model.double()
    with torch.no_grad():
        hidden = [model(torch.tensor([ids])).last_hidden_state[0] for ids in texts]
    mean = torch.stack([h.mean(0) for h in hidden])
    save_file({"ids": np.array(sum(texts, []), dtype=np.int64),
               "lengths": np.array([len(ids) for ids in texts], dtype=np.int64),
               "hidden": torch.cat(hidden).numpy(), "mean": mean.numpy(),
               "unit": torch.nn.functional.normalize(mean, dim=1).numpy()},
              folder / "expected.safetensors")


def write_json(file, value):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, indent=1) + "\n")


def make(out):
    sizes = dict(vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                 intermediate_size=24)
    texts = [ids_of(text) for text in TEXTS]
    bert = out / "bert"
    save(bert, make_model(BertModel, BertConfig(**sizes, max_position_embeddings=20)), texts)
    (bert / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (bert / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    write_json(bert / "tokenizer_config.json",
               {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 20})
    step = "sentence_transformers.models."
    write_json(bert / "modules.json",
               [{"idx": 0, "name": "0", "path": "", "type": step + "Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": step + "Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": step + "Normalize"}])
    write_json(bert / "1_Pooling" / "config.json",
               {"word_embedding_dimension": 16, "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(bert / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    # The second text holds a token of padding, which takes no place in RoBERTa's count.
    others = [[0, 5, 6, 7, 2], [0, 8, 1, 9, 2], [0, 2]]
    save(out / "roberta",
         make_model(RobertaModel, RobertaConfig(**sizes, max_position_embeddings=12, type_vocab_size=1,
                                                layer_norm_eps=1e-5, hidden_act="gelu_new")), others)
    save(out / "distilbert",
         make_model(DistilBertModel,
                    DistilBertConfig(vocab_size=len(PIECES), dim=16, n_layers=2, n_heads=4, hidden_dim=24,
                                     max_position_embeddings=12)), others)


def check(folder):
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        made = pathlib.Path(temporary) / "made"
        make(made)
        for file in sorted(p for p in made.rglob("*") if p.is_file()):
            old = folder / file.relative_to(made)
            if file.name == "expected.safetensors":
                a, b = load_file(file), load_file(old)
                same = a.keys() == b.keys() and all(np.abs(a[k] - b[k]).max() < 1e-12 for k in a)
            else:
                same = file.read_bytes() == old.read_bytes()
            if not same:
                different += 1
                print("differs:", old)
    return different


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        sys.exit(1 if check(pathlib.Path(sys.argv[2])) else 0)
    make(pathlib.Path(sys.argv[1]))
