#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference tensors for multi-head attention, computed by PyTorch in float64.

  make_golden.py OUT_DIR        writes every case into OUT_DIR/<case>/ and checks them against torch
  make_golden.py --check DIR    makes them again in a temporary folder and compares with DIR:
                                inputs to the byte, results to 1e-12; prints what differs

Needs NumPy and PyTorch, 1.13 (Debian's python3-torch) or any 2.x. Inputs and weights are float32,
results are float64, computed in float64 from those float32 values: a double-precision
implementation should agree to about 1e-12 and a float one to about 1e-5, relative.

A case is a folder of .npy files
  queries, keys, values   float32 [B, Q, query_size], [B, K, key_size], [B, K, value_size]
  W_q, W_k, W_v, W_o      float32 [H*D, query_size], [G*D, key_size], [G*D, value_size], [E, H*D]
  b_q, b_k, b_v, b_o      float32 [H*D], [G*D], [G*D], [E], if the case has biases
  valid_lens              int64 [B] or [B, Q], if the case has valid lengths
  bias                    float32 [B, H, Q, K], added to the scaled scores, if the case has one
  output                  float64 [B, Q, E]
  attention_weights       float64 [B, H, Q, K], after the softmax
  grad_output             float32 [B, Q, E], the upstream gradient
  grad_queries, grad_keys, grad_values, grad_W_*, grad_b_*, grad_bias
                          float64, the gradients of sum(output * grad_output)
and a case.txt of lines "key value": the keys of CASES below, an absent one has its default.
"""
import math
import pathlib
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)

# Defaults: query_size, key_size, value_size = num_hiddens; num_kv_heads = num_heads;
# head_size = num_hiddens / num_heads; no bias, no mask; input_scale = 1.
#   causal      top_left: query i stands at key i; bottom_right: at key i + K - Q, so that the last
#               query sees every key. Later keys are hidden.
#   window      left, right: keys from (position - left) to (position + right), both included;
#               -1: unlimited. Without causal it needs Q == K.
#   valid_lens  a length per sequence, or one per query
#   ones        all inputs are 1;  same_inputs: keys and values are the queries
#   score_bias  a tensor added to the scaled scores
CASES = [
    dict(name="d2l_example", seed=1000, note="the chapter's example: all ones, lengths 3 and 2",
         batch=2, num_queries=4, num_kvpairs=6, num_hiddens=100, num_heads=5, valid_lens=[3, 2],
         ones=True),
    dict(name="lazy_example", seed=1001, note="all ones, hidden size 10", batch=1, num_queries=4,
         num_kvpairs=6, num_hiddens=10, num_heads=5, valid_lens=[3], ones=True),
    dict(name="cross_sizes_bias", seed=1002, note="three different input sizes, biases", batch=3,
         num_queries=5, num_kvpairs=7, query_size=12, key_size=20, value_size=9, num_hiddens=24,
         num_heads=4, bias=True, valid_lens=[7, 1, 4]),
    dict(name="valid_lens_2d", seed=1003, note="a valid length for every query", batch=2,
         num_queries=3, num_kvpairs=9, num_hiddens=32, num_heads=2,
         valid_lens=[[1, 9, 4], [3, 2, 8]]),
    dict(name="no_mask", seed=1004, note="every query sees every key", batch=2, num_queries=6,
         num_kvpairs=6, num_hiddens=16, num_heads=8),
    dict(name="causal_square", seed=1005, note="causal self-attention", batch=2, num_queries=17,
         num_kvpairs=17, num_hiddens=24, num_heads=3, causal="bottom_right", same_inputs=True),
    dict(name="causal_bottom_right", seed=1006, note="more keys than queries", batch=1,
         num_queries=3, num_kvpairs=11, num_hiddens=24, num_heads=3, causal="bottom_right"),
    dict(name="causal_window_lens", seed=1007, note="causal, four keys back, and valid lengths",
         batch=2, num_queries=13, num_kvpairs=13, num_hiddens=20, num_heads=2,
         causal="bottom_right", window=(3, -1), valid_lens=[13, 6]),
    dict(name="grouped_query", seed=1008, note="8 query heads share 2 key/value heads", batch=2,
         num_queries=5, num_kvpairs=8, num_hiddens=64, num_heads=8, num_kv_heads=2,
         valid_lens=[8, 5]),
    dict(name="additive_bias", seed=1009, note="a tensor added to the scaled scores", batch=2,
         num_queries=4, num_kvpairs=5, num_hiddens=12, num_heads=3, score_bias=True,
         valid_lens=[5, 3]),
    dict(name="empty_row", seed=1010, note="a sequence with no valid key: output is the bias b_o",
         batch=2, num_queries=2, num_kvpairs=4, num_hiddens=8, num_heads=2, bias=True,
         valid_lens=[0, 4]),
    dict(name="large_logits", seed=1011, note="scores near +-300: exp must not overflow", batch=1,
         num_queries=8, num_kvpairs=33, num_hiddens=16, num_heads=1, input_scale=12.0,
         valid_lens=[29]),
    dict(name="long_rows", seed=1012, note="many keys: crosses block boundaries", batch=1,
         num_queries=7, num_kvpairs=1537, num_hiddens=16, num_heads=2, valid_lens=[1531]),

    dict(name="causal_top_left_more_keys", seed=1013, note="later keys are hidden",
         batch=1, num_queries=3, num_kvpairs=11, num_hiddens=24, num_heads=3, causal="top_left"),
    dict(name="causal_top_left_more_queries", seed=1014, note="the last queries see every key",
         batch=2, num_queries=11, num_kvpairs=5, num_hiddens=24, num_heads=3, causal="top_left"),
    dict(name="causal_bottom_right_more_queries", seed=1015, note="the first 5 queries see no key",
         batch=2, num_queries=9, num_kvpairs=4, num_hiddens=24, num_heads=3, bias=True,
         causal="bottom_right"),
    dict(name="causal_square_long", seed=1016, note="causal over several blocks of queries",
         batch=1, num_queries=131, num_kvpairs=131, num_hiddens=8, num_heads=1,
         causal="top_left", same_inputs=True),
    dict(name="window_both_sides", seed=1017, note="not causal: 1 key back, 3 keys ahead", batch=2,
         num_queries=12, num_kvpairs=12, num_hiddens=20, num_heads=2, window=(1, 3)),
    dict(name="window_right_only", seed=1018, note="not causal: all keys back, 2 keys ahead",
         batch=2, num_queries=10, num_kvpairs=10, num_hiddens=20, num_heads=2, window=(-1, 2),
         valid_lens=[10, 7]),
    dict(name="window_left_only", seed=1019, note="not causal: 2 keys back, all keys ahead; the "
         "last queries of the short sequence see no key", batch=2, num_queries=10, num_kvpairs=10,
         num_hiddens=20, num_heads=2, bias=True, window=(2, -1), valid_lens=[10, 5]),
    dict(name="causal_top_left_window", seed=1020, note="the last queries' windows lie past the "
         "keys: they see none", batch=1, num_queries=9, num_kvpairs=5, num_hiddens=12, num_heads=2,
         bias=True, causal="top_left", window=(2, -1)),
    dict(name="causal_window_long", seed=1021, note="a window over 401 keys that starts in a block",
         batch=1, num_queries=5, num_kvpairs=523, num_hiddens=8, num_heads=1,
         causal="bottom_right", window=(400, 0)),
    dict(name="head_size", seed=1022, note="num_heads * head_size is not num_hiddens", batch=2,
         num_queries=5, num_kvpairs=6, num_hiddens=16, num_heads=3, head_size=7, bias=True,
         valid_lens=[6, 2]),
    dict(name="head_size_1", seed=1023, note="heads of one number", batch=2, num_queries=3,
         num_kvpairs=5, num_hiddens=6, num_heads=6, valid_lens=[4, 5]),
    dict(name="head_size_64", seed=1024, note="heads of 64 numbers, small inputs", batch=2,
         num_queries=9, num_kvpairs=37, query_size=20, key_size=12, value_size=16, num_hiddens=128,
         num_heads=2, bias=True, valid_lens=[37, 18]),
    dict(name="head_size_128", seed=1025, note="heads of 128 numbers, one output", batch=1,
         num_queries=7, num_kvpairs=19, query_size=8, key_size=8, value_size=8, num_hiddens=1,
         num_heads=1, head_size=128, valid_lens=[17]),
    dict(name="grouped_query_bias", seed=1026, note="6 query heads share 3 key/value heads, biases",
         batch=2, num_queries=5, num_kvpairs=8, num_hiddens=24, num_heads=6, num_kv_heads=3,
         bias=True, valid_lens=[3, 8]),
    dict(name="grouped_query_empty_row", seed=1027, note="the middle sequence has no valid key",
         batch=3, num_queries=4, num_kvpairs=6, num_hiddens=16, num_heads=4, num_kv_heads=2,
         bias=True, valid_lens=[6, 0, 1]),
    dict(name="multi_query", seed=1028, note="4 query heads share one key/value head", batch=2,
         num_queries=6, num_kvpairs=6, num_hiddens=20, num_heads=4, num_kv_heads=1,
         causal="bottom_right"),
    dict(name="valid_lens_2d_causal", seed=1029, note="a length for every query, one of them 0, "
         "and causal", batch=2, num_queries=5, num_kvpairs=8, num_hiddens=24, num_heads=3,
         causal="bottom_right", valid_lens=[[8, 2, 0, 5, 8], [1, 8, 6, 7, 3]]),
    dict(name="everything", seed=1030, note="all parameters at once", batch=2, num_queries=7,
         num_kvpairs=10, query_size=11, key_size=13, value_size=9, num_hiddens=14, num_heads=6,
         num_kv_heads=2, head_size=5, bias=True, causal="bottom_right", window=(4, 1),
         valid_lens=[[10, 3, 7, 0, 9, 5, 10], [6, 6, 6, 10, 10, 2, 8]]),
]


def sizes(case):
    """H, G, D, E of a case."""
    h, e = case["num_heads"], case["num_hiddens"]
    return h, case.get("num_kv_heads", h), case.get("head_size", e // h), e


def may_see(case, lens, b, i, j):
    """Whether query i of sequence b may see key j."""
    causal = case.get("causal")
    position = i
    if causal == "bottom_right":
        position = i + case["num_kvpairs"] - case["num_queries"]
    if causal and j > position:
        return False
    left, right = case.get("window", (-1, -1))
    if left >= 0 and j < position - left:
        return False
    if right >= 0 and j > position + right:
        return False
    if lens is not None:
        length = lens[b] if lens.ndim == 1 else lens[b, i]
        if j >= length:
            return False
    return True


def visible(case, lens):
    """may_see of every (sequence, query, key): bool [B, Q, K]."""
    assert "window" not in case or "causal" in case or case["num_queries"] == case["num_kvpairs"]
    return torch.tensor([[[may_see(case, lens, b, i, j) for j in range(case["num_kvpairs"])]
                          for i in range(case["num_queries"])] for b in range(case["batch"])])


def project(t, x, name):
    y = x @ t["W_" + name].T
    return y + t["b_" + name] if "b_" + name in t else y


def attention_reference(case, t, seen):
    """The textbook computation, head by head, with no attempt at speed."""
    h, g, d, _ = sizes(case)
    q, k, v = (project(t, t[x], n) for x, n in (("queries", "q"), ("keys", "k"), ("values", "v")))
    heads, weights = [], []
    for i in range(h):
        j = i // (h // g)  # the key/value head of query head i
        q_i = q[..., i * d:(i + 1) * d]
        k_j, v_j = k[..., j * d:(j + 1) * d], v[..., j * d:(j + 1) * d]
        s = q_i @ k_j.transpose(1, 2) / math.sqrt(d)
        if "bias" in t:
            s = s + t["bias"][:, i]
        w = torch.softmax(s.masked_fill(~seen, -math.inf), -1)
        w = torch.where(seen.any(-1, keepdim=True), w, torch.zeros_like(w))  # sees no key: zeros
        heads.append(w @ v_j)
        weights.append(w)
    return project(t, torch.cat(heads, -1), "o"), torch.stack(weights, 1)


def make_inputs(case):
    rng = np.random.default_rng(case["seed"])

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    h, g, d, e = sizes(case)
    b, q, k = case["batch"], case["num_queries"], case["num_kvpairs"]
    query_size, key_size, value_size = (case.get(n, e)
                                        for n in ("query_size", "key_size", "value_size"))
    scale = case.get("input_scale", 1.0)
    a = {}
    if case.get("ones"):
        a["queries"] = np.ones((b, q, query_size), np.float32)
        a["keys"] = np.ones((b, k, key_size), np.float32)
        a["values"] = np.ones((b, k, value_size), np.float32)
    elif case.get("same_inputs"):
        a["queries"] = a["keys"] = a["values"] = normal(b, q, query_size, scale=scale)
    else:
        a["queries"] = normal(b, q, query_size, scale=scale)
        a["keys"] = normal(b, k, key_size, scale=scale)
        a["values"] = normal(b, k, value_size)
    for name, inputs, outputs in (("q", query_size, h * d), ("k", key_size, g * d),
                                  ("v", value_size, g * d), ("o", h * d, e)):
        a["W_" + name] = normal(outputs, inputs, scale=1 / math.sqrt(inputs))
        if case.get("bias"):
            a["b_" + name] = normal(outputs, scale=0.3)
    if case.get("score_bias"):
        a["bias"] = normal(b, h, q, k)
    if "valid_lens" in case:
        a["valid_lens"] = np.array(case["valid_lens"], np.int64)
    a["grad_output"] = normal(b, q, e)
    return a


def is_leaf(name):
    return name in ("queries", "keys", "values", "bias") or name.startswith(("W_", "b_"))


def add_results(case, a):
    t = {n: torch.tensor(x, dtype=torch.float64) for n, x in a.items() if n != "valid_lens"}
    for n in filter(is_leaf, t):
        t[n].requires_grad_(True)
    output, weights = attention_reference(case, t, visible(case, a.get("valid_lens")))
    (output * t["grad_output"]).sum().backward()
    a["output"], a["attention_weights"] = output.detach().numpy(), weights.detach().numpy()
    for n in filter(is_leaf, t):
        a["grad_" + n] = t[n].grad.numpy()


def text(key, value):
    if key == "valid_lens":
        return "per_query" if isinstance(value[0], list) else "per_sequence"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def make(case, out):
    a = make_inputs(case)
    add_results(case, a)
    folder = pathlib.Path(out) / case["name"]
    folder.mkdir(parents=True, exist_ok=True)
    for n, x in a.items():
        assert np.isfinite(x).all(), (case["name"], n)
        np.save(folder / (n + ".npy"), np.ascontiguousarray(x))
    lines = [f"{key} {text(key, value)}\n" for key, value in case.items() if key != "name"]
    (folder / "case.txt").write_text("".join(lines))


def load(out, case):
    return {p.stem: torch.tensor(np.load(p)) if p.stem == "valid_lens" else
            torch.tensor(np.load(p), dtype=torch.float64)
            for p in sorted((pathlib.Path(out) / case["name"]).glob("*.npy"))}


def mask_again(case, t):
    """The mask by torch's own triangles, to hold the predicate against: bool [B, Q, K]."""
    b, q, k = case["batch"], case["num_queries"], case["num_kvpairs"]
    shift = k - q if case.get("causal") == "bottom_right" else 0
    left, right = case.get("window", (-1, -1))
    seen = torch.ones(q, k, dtype=torch.bool)
    seen = seen.tril(shift) if "causal" in case else seen
    seen = seen.triu(shift - left) if left >= 0 else seen
    seen = seen.tril(shift + right) if right >= 0 else seen
    seen = seen.expand(b, q, k)
    if "valid_lens" in t:
        seen = seen & (torch.arange(k) < t["valid_lens"].reshape(b, -1, 1))
    return seen


def torch_layer(case, t, score_mask):
    """torch.nn.MultiheadAttention. It takes queries of embed_dim features only, so they come
    projected and its own projection of them is the identity."""
    h, _, _, e = sizes(case)
    bias = "b_q" in t
    m = torch.nn.MultiheadAttention(e, h, bias=bias, kdim=t["keys"].shape[2],
                                    vdim=t["values"].shape[2], batch_first=True).eval()
    with torch.no_grad():
        if m.in_proj_weight is not None:
            m.in_proj_weight.copy_(torch.cat([torch.eye(e), t["W_k"], t["W_v"]]))
        else:
            m.q_proj_weight.copy_(torch.eye(e))
            m.k_proj_weight.copy_(t["W_k"])
            m.v_proj_weight.copy_(t["W_v"])
        m.out_proj.weight.copy_(t["W_o"])
        if bias:
            m.in_proj_bias.copy_(torch.cat([torch.zeros(e), t["b_k"], t["b_v"]]))
            m.out_proj.bias.copy_(t["b_o"])
        return m(F.linear(t["queries"], t["W_q"], t.get("b_q")), t["keys"], t["values"],
                 attn_mask=score_mask.flatten(0, 1), average_attn_weights=False)


def torch_function(case, t, score_mask):
    """torch.nn.functional.scaled_dot_product_attention between torch's own projections."""
    h, g, d, _ = sizes(case)
    q, k, v = (F.linear(t[x], t["W_" + n], t.get("b_" + n)).unflatten(2, (-1, d)).transpose(1, 2)
               for x, n in (("queries", "q"), ("keys", "k"), ("values", "v")))
    heads = F.scaled_dot_product_attention(q, k.repeat_interleave(h // g, 1),
                                           v.repeat_interleave(h // g, 1), attn_mask=score_mask)
    return F.linear(heads.transpose(1, 2).flatten(2), t["W_o"], t.get("b_o"))


def require_close(what, got, expected, bound):
    difference = (got - expected).abs().max().item() if got.numel() else 0.0
    scale = max(1.0, expected.abs().max().item() if expected.numel() else 0.0)
    assert difference <= bound * scale, (what, difference, scale)


def check_against_torch(out):
    """The references agree with torch.nn.MultiheadAttention and with scaled_dot_product_attention
    wherever those can compute the case. (Torch says NaN where a query sees no key: C2 decides.)"""
    layers = functions = 0
    for case in CASES:
        t, name = load(out, case), case["name"]
        h, g, d, e = sizes(case)
        seen = mask_again(case, t)
        assert torch.equal(seen, visible(case, t.get("valid_lens"))), name
        some = seen.any(-1)  # [B, Q]
        scores = t.get("bias", torch.zeros(case["batch"], h, *seen.shape[1:]))
        score_mask = scores.masked_fill(~seen[:, None], -math.inf)
        weights = t["attention_weights"].transpose(1, 2)  # [B, Q, H, K]
        require_close(name + ": no key", t["output"][~some],
                      t.get("b_o", torch.zeros(e)).expand(int((~some).sum()), e), 0)
        assert not weights[~some].any(), name
        if g == h and h * d == e:
            y, w = torch_layer(case, t, score_mask)
            require_close(name + ": layer", y[some], t["output"][some], 1e-12)
            require_close(name + ": weights", w.transpose(1, 2)[some], weights[some], 1e-12)
            layers += 1
        if hasattr(F, "scaled_dot_product_attention"):  # 2.0 and later
            y = torch_function(case, t, score_mask)
            require_close(name + ": function", y[some], t["output"][some], 1e-12)
            functions += 1
    print(f"torch {torch.__version__}: {layers} cases agree with nn.MultiheadAttention, "
          f"{functions} with scaled_dot_product_attention")


def check_gradients(out):
    """Along a random direction, the gradients give the central difference of the reference."""
    for case in CASES:
        t = load(out, case)
        seen = visible(case, t.get("valid_lens"))
        generator = torch.Generator().manual_seed(case["seed"])
        step = 1e-6 / case.get("input_scale", 1.0)
        ahead, behind, slope, size = dict(t), dict(t), 0.0, 1.0
        for n in filter(is_leaf, t):
            direction = torch.randn(t[n].shape, generator=generator)
            ahead[n], behind[n] = t[n] + step * direction, t[n] - step * direction
            products = t["grad_" + n] * direction
            slope, size = slope + products.sum(), size + products.abs().sum()
        up, down = ((attention_reference(case, x, seen)[0] * t["grad_output"]).sum()
                    for x in (ahead, behind))
        assert abs((up - down) / (2 * step) - slope) < 1e-7 * size, case["name"]
    print(len(CASES), "gradients agree with central differences")


def differences(made, kept):
    """What differs between two folders of cases, a line each."""
    def files(folder):
        return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}

    made, kept = files(made), files(kept)
    for name in sorted(made.keys() | kept.keys()):
        if name not in kept or name not in made:
            yield f"{name}: {'missing' if name not in kept else 'made by no case'}"
            continue
        a, b = made[name].read_bytes(), kept[name].read_bytes()
        if a == b:
            continue
        if name.endswith(".npy"):
            x, y = np.load(made[name]), np.load(kept[name])
            if x.dtype == y.dtype == np.float64 and x.shape == y.shape:
                worst = np.abs(x - y).max() / max(1.0, np.abs(x).max())
                if not worst <= 1e-12:
                    yield f"{name}: values differ by {worst:.1e}"
                continue
        yield f"{name}: bytes differ"


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        kept = pathlib.Path(arguments[1])
        with tempfile.TemporaryDirectory() as folder:
            for case in CASES:
                make(case, folder)
            found = list(differences(pathlib.Path(folder), kept))
        print("\n".join(found + [f"{len(CASES)} cases, {len(found)} differences"]))
        return 1 if found else 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    for case in CASES:
        make(case, arguments[0])
    check_against_torch(arguments[0])
    check_gradients(arguments[0])
    print(len(CASES), "cases in", arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
