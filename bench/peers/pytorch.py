# SPDX-License-Identifier: MIT
"""PyTorch: scaled_dot_product_attention on each of its backends, products composed by hand, and
nn.MultiheadAttention; linear layers as they are and with weights packed beforehand by MKL and
oneDNN, as its compiler does.
"""
import functools

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import protocol

tensor = torch.from_numpy


def linears(w, rows):
    """Ways of x W^T: {name: function}."""
    mkl, onednn = torch.ops.mkl, torch.ops.mkldnn
    for_mkl = functools.cache(lambda: mkl._mkl_reorder_linear_weight(w, rows))
    for_onednn = functools.cache(lambda: onednn._reorder_linear_weight(w, rows))
    transposed = w.t().contiguous()
    return {
        'linear': lambda x: F.linear(x, w),
        'matmul': lambda x: torch.matmul(x, transposed),
        'MKL packed': lambda x: mkl._mkl_linear(x, for_mkl(), w, None, rows),
        'oneDNN packed':
            lambda x: onednn._linear_pointwise(x, for_onednn(), None, 'none', [], ''),
    }


class Way:
    """A function of fixed arguments that keeps its last result."""

    def __init__(self, function):
        self.function = function

    def __call__(self):
        self.result = self.function()

    def output(self):
        return self.result.numpy()


def on_backend(backend, function, *arguments, **options):
    with sdpa_kernel(backend):
        return function(*arguments, **options)


def composed(q, k, v, attn_mask=None, is_causal=False, enable_gqa=False):
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1]**-0.5
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores.masked_fill_(hidden, -torch.inf)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        scores.masked_fill_(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores += attn_mask
    return torch.softmax(scores, -1) @ v


attentions = {
    'sdpa flash': functools.partial(on_backend, SDPBackend.FLASH_ATTENTION,
                                    F.scaled_dot_product_attention),
    'sdpa math': functools.partial(on_backend, SDPBackend.MATH, F.scaled_dot_product_attention),
    'sdpa': F.scaled_dot_product_attention,
    'composed': composed,
}


def attention_ways(case):
    q, k, v = map(tensor, case.qkv)
    options = {'is_causal': case.is_causal()}
    if case.G != case.H:
        options['enable_gqa'] = True
    masks = {'': {}}
    if case.additive() is not None:
        masks = {', float mask': {'attn_mask': tensor(case.additive())}}
    if case.hides_pairs():
        masks[', bool mask'] = {'attn_mask': tensor(case.may_see())[:, None]}
    return {
        name + mask_name: Way(functools.partial(attend, q, k, v, **mask, **options))
        for name, attend in attentions.items() for mask_name, mask in masks.items()
    }


def split_heads(x, H):
    return x.view(*x.shape[:-1], H, x.shape[-1] // H).transpose(-2, -3)


def join_heads(x):
    return x.transpose(-2, -3).flatten(-2)


def layer_ways(case):
    x, y = map(tensor, case.layer_inputs())
    w = list(map(tensor, case.weights()))
    rows = case.B * case.Q
    mask = None
    if case.lens:
        mask = (torch.arange(case.K) < torch.tensor(case.lens)[:, None])[:, None, None]
    ways = {}
    each = [linears(one, rows) for one in w]
    merged = linears(torch.cat(w[:3]), rows) if case.is_self_attention() else None
    for kind in each[0]:
        q_of, k_of, v_of, o_of = (one[kind] for one in each)

        def whole(attend, q_of=q_of, k_of=k_of, v_of=v_of, o_of=o_of):
            q, k, v = (split_heads(z, case.H) for z in (q_of(x), k_of(y), v_of(y)))
            return o_of(join_heads(attend(q, k, v, attn_mask=mask)))

        def whole_merged(attend, qkv_of=merged and merged[kind], o_of=o_of):
            q, k, v = (split_heads(z, case.H) for z in qkv_of(x).chunk(3, -1))
            return o_of(join_heads(attend(q, k, v, attn_mask=mask)))

        def padding_left_out(attend, q_of=q_of, k_of=k_of, v_of=v_of, o_of=o_of):
            """Only rows that count are projected; a call for each sequence."""
            keys = torch.cat([y[b, :n] for b, n in enumerate(case.lens)])
            counted = case.lens if case.masking == 'query_lens' else [case.Q] * case.B
            queries = torch.cat([x[b, :n] for b, n in enumerate(counted)])
            q, k, v = q_of(queries), k_of(keys), v_of(keys)
            heads = [
                join_heads(attend(*(split_heads(z, case.H) for z in one)).squeeze(0))
                for one in zip(*(
                    [part.unsqueeze(0) for part in z.split(lens)]
                    for z, lens in ((q, counted), (k, case.lens), (v, case.lens))))
            ]
            output = o_of(torch.cat(heads))
            if counted is not case.lens:
                return output
            padded = torch.zeros(case.B, case.Q, case.E)
            for b, part in enumerate(output.split(counted)):
                padded[b, :counted[b]] = part
            return padded

        for name, attend in attentions.items():
            if name == 'sdpa math':
                continue
            ways[f'{kind}, {name}'] = Way(functools.partial(whole, attend))
            if merged:
                ways[f'{kind} merged, {name}'] = Way(functools.partial(whole_merged, attend))
            if case.lens:
                ways[f'{kind}, {name}, padding left out'] = Way(
                    functools.partial(padding_left_out, attend))

    module = torch.nn.MultiheadAttention(case.E, case.H, bias=True, batch_first=True).eval()
    module.in_proj_weight.data = torch.cat(w[:3])
    module.out_proj.weight.data = w[3]
    module.in_proj_bias.data.zero_()
    hidden = None if mask is None else ~mask[:, 0, 0]
    ways['nn.MultiheadAttention'] = Way(
        lambda: module(x, y, y, key_padding_mask=hidden, need_weights=False)[0])
    return ways


def ways(case, threads):
    torch.set_num_threads(threads)
    if case.kind == 'projection':
        x, w = tensor(case.layer_inputs()[0]).view(-1, case.E), tensor(case.weights()[0])
        found = {
            name: Way(functools.partial(linear, x))
            for name, linear in linears(w, case.B * case.Q).items()
        }
    else:
        found = attention_ways(case) if case.kind == 'attention' else layer_ways(case)
    return {name: (way, way.output) for name, way in found.items()}


if __name__ == '__main__':
    with torch.inference_mode():
        protocol.run('PyTorch', f'{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}',
                     ways)
