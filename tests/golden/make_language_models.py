#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tiny language models as Hugging Face folders, and what transformers makes of them.

  make_language_models.py OUT_DIR   writes every model into OUT_DIR/<name>/

Needs NumPy, PyTorch and transformers 5. A folder holds config.json and model.safetensors, float32, as
save_pretrained writes them, with random weights large enough that what a token attends to matters, and
expected.safetensors:
  ids       int64 [L], a text
  logits    float64 [L, vocabulary], of what follows each of its tokens, computed in float64 from the
            float32 weights
  greedy    int64 [200], the likeliest tokens that follow those of "begin", in float64. margin: the least difference of the two likeliest logits.
"gpt2" and "llama" have a tokenizer.json too, trained on a few lines with the pre-tokenizer of GPT-2 and
that of Llama 3. Their greedy tokens follow a prompt, which expected.txt begins with, and then their text.
"""
import pathlib
import sys

import tokenizers
import torch
import transformers
from safetensors.torch import save_file

VOCABULARY, LENGTH, PROMPT, NEW = 96, 24, 5, 200
WORDS, PROMPT_TEXT = 300, "Mira hört 2026 apples"
LINES = ["Mira has 7 apples. Tom gives her 5 more, and now she has 12 apples.",
         "Der Bär hört 3 Vögel; she'll say: \"I've seen them, haven't I?\"",
         "A naïve café, 12345 tokens in 2026, and  two   spaces. 你好，世界 😀"]
LLAMA_3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA = dict(vocab_size=VOCABULARY, hidden_size=16, num_attention_heads=4, num_hidden_layers=2,
             intermediate_size=24, max_position_embeddings=256, bos_token_id=0, eos_token_id=1,
             pad_token_id=None)
MODELS = {
    "gpt2": transformers.GPT2Config(
        vocab_size=WORDS, n_positions=256, n_embd=16, n_layer=2, n_head=4, bos_token_id=0,
        eos_token_id=1),
    "llama": transformers.LlamaConfig(
        **{**LLAMA, "vocab_size": WORDS}, num_key_value_heads=2, rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    # Everything that is optional: biases, a head size of its own, one matrix for both ends.
    "llama_options": transformers.LlamaConfig(
        **LLAMA, num_key_value_heads=1, head_dim=6, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=True, rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}),
    "mistral": transformers.MistralConfig(
        **LLAMA, num_key_value_heads=2, sliding_window=7),
    "qwen2": transformers.Qwen2Config(**LLAMA, num_key_value_heads=2),
}


def tokenizer(name):
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "gpt2")
    made.pre_tokenizer = byte_level if name == "gpt2" else tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Split(tokenizers.Regex(LLAMA_3), "isolated"), byte_level])
    made.decoder = tokenizers.decoders.ByteLevel()
    specials = ["<|begin|>", "<|end|>"]
    made.train_from_iterator(LINES, tokenizers.trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=specials, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    if name == "llama":
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 0)])
    return made


def main(out):
    for seed, (name, config) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for key, value in model.named_parameters():
                is_norm = "norm" in key or "ln_" in key
                value.copy_(torch.randn_like(value) * (0.2 if is_norm else 0.4)
                            + (1 if is_norm and key.endswith("weight") else 0))
        folder = pathlib.Path(out) / name
        model.eval().save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        words = tokenizer(name) if name in ("gpt2", "llama") else None
        model = model.double()
        generator = torch.Generator().manual_seed(1000 + seed)
        ids = torch.randint(0, config.vocab_size, (LENGTH,), generator=generator)
        text, margin = ids[:PROMPT].tolist(), float("inf")
        if words is not None:
            words.save(str(folder / "tokenizer.json"), pretty=False)
            text = words.encode(PROMPT_TEXT).ids
        begin = len(text)
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
            for _ in range(NEW):
                best = model(torch.tensor([text])).logits[0, -1].topk(2).values
                margin = min(margin, (best[0] - best[1]).item())
                text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
        if words is not None:
            written = words.decode(text[begin:])
            (folder / "expected.txt").write_text(f"{PROMPT_TEXT}{written}\n", newline="")
        save_file({"ids": ids, "logits": logits.contiguous(),
                   "greedy": torch.tensor(text[begin:]), "begin": torch.tensor(text[:begin])},
                  folder / "expected.safetensors", {"margin": repr(margin)})
        print(f"{name}: margin {margin:.2g}, {len(set(text[begin:]))} different tokens, "
              f"logits from {logits.min():.2f} to {logits.max():.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
