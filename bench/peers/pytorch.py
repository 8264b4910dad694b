# SPDX-License-Identifier: MIT
"""PyTorch: scaled_dot_product_attention on each of its backends, products composed by hand, and
nn.MultiheadAttention; linear layers as they are and with weights packed beforehand by MKL and
oneDNN, as its compiler does. Gradients by its autograd. Of layers, the fastest way is compiled, too
(of attention alone it never helped: sdpa stays the kernel that it is, and calls cost more).
"""
import functools
import os

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


# Those that have gradients.
trained_linears = {
    'linear': lambda x, w: F.linear(x, w),
    'oneDNN': lambda x, w: torch._C._nn.mkldnn_linear(x.to_mkldnn(), w).to_dense(),
}


class Way:
    """A function of fixed arguments that keeps its last result."""

    def __init__(self, function):
        self.function = function

    def __call__(self):
        self.result = self.function()

    def output(self):
        return [self.result.numpy()]


class Trained:
    """A way whose results are the output of forward() and the gradients of the leaves; or, where
    forward is run once and kept, the gradients alone. split: how many weights a leaf holds."""

    def __init__(self, forward, leaves, grad_output, is_kept=False, split=None):
        self.forward = functools.cache(forward) if is_kept else forward
        self.leaves, self.grad_output, self.is_kept = leaves, grad_output, is_kept
        self.split = split or {}

    @torch.inference_mode(False)
    def __call__(self):
        self.result = self.forward()
        self.gradients = torch.autograd.grad(self.result, self.leaves, self.grad_output,
                                             retain_graph=self.is_kept)

    def output(self):
        parts = [] if self.is_kept else [self.result.detach()]
        for i, gradient in enumerate(self.gradients):
            parts += gradient.chunk(self.split.get(i, 1))
        return [x.numpy() for x in parts]


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


def projection_ways(case):
    x, w = tensor(case.layer_inputs()[0]).view(-1, case.E), tensor(case.weights()[0])
    return {
        name: Way(functools.partial(linear, x))
        for name, linear in linears(w, case.B * case.Q).items()
    }


def split_heads(x, H):
    return x.view(*x.shape[:-1], H, x.shape[-1] // H).transpose(-2, -3)


def join_heads(x):
    return x.transpose(-2, -3).flatten(-2)


def key_mask(case):
    """[B, 1, 1, K] of bool; None if all keys count."""
    if not case.lens:
        return None
    return (torch.arange(case.K) < torch.tensor(case.lens)[:, None])[:, None, None]


def rows_of(lens, longest):
    """The first n rows of each sequence, of rows that lie in [B * longest]."""
    return torch.cat([b * longest + torch.arange(n) for b, n in enumerate(lens)] or
                     [torch.arange(0)])


def separate(q_of, k_of, v_of):
    return lambda x, y: (q_of(x), k_of(y), v_of(y))


def merged(qkv_of):
    return lambda x, y: qkv_of(x).chunk(3, -1)


def layer_functions(case, x, y, qkv_of, o_of, is_merged=False):
    """{name: function}, one for each attention. qkv_of: queries, keys and values of x and y."""
    mask = key_mask(case)

    def whole(attend):
        q, k, v = (split_heads(z, case.H) for z in qkv_of(x, y))
        return o_of(join_heads(attend(q, k, v, attn_mask=mask)))

    counted = case.lens if case.masking == 'query_lens' else [case.Q] * case.B
    query_rows = rows_of(counted, case.Q)
    key_rows = rows_of(case.lens, case.K)

    def padding_left_out(attend):
        """Only rows that count are projected; a call for each sequence."""
        queries = x.flatten(0, 1).index_select(0, query_rows)
        keys = y.flatten(0, 1).index_select(0, key_rows)
        q, k, v = qkv_of(queries, keys)
        heads = [
            join_heads(attend(*(split_heads(z, case.H) for z in one)).squeeze(0))
            for one in zip(*(
                [part.unsqueeze(0) for part in z.split(lens)]
                for z, lens in ((q, counted), (k, case.lens), (v, case.lens))))
        ]
        output = o_of(torch.cat(heads))
        if counted is case.lens:
            output = output.new_zeros(case.B * case.Q, case.E).index_copy(0, query_rows, output)
        return output.view(case.B, case.Q, case.E)

    functions = {}
    for name, attend in attentions.items():
        if name == 'sdpa math':
            continue
        functions[name] = functools.partial(whole, attend)
        if case.lens and not is_merged:
            functions[f'{name}, padding left out'] = functools.partial(padding_left_out, attend)
    return functions


def module_of(case, w, bias):
    """nn.MultiheadAttention, and a call of it."""
    module = torch.nn.MultiheadAttention(case.E, case.H, bias=bias, batch_first=True,
                                         dtype=w[0].dtype)
    module.in_proj_weight.data = torch.cat(w[:3])
    module.out_proj.weight.data = w[3]
    if bias:
        module.in_proj_bias.data.zero_()
    mask = key_mask(case)
    hidden = None if mask is None else ~mask[:, 0, 0]
    return module, lambda x, y: module(x, y, y, key_padding_mask=hidden, need_weights=False)[0]


def projections(case):
    """{kind: (those of the inputs, that of the heads)}; of the inputs it is one or three."""
    w = list(map(tensor, case.weights()))
    rows = case.B * case.Q
    each = [linears(one, rows) for one in w]
    found = {kind: ([one[kind] for one in each[:3]], each[3][kind]) for kind in each[0]}
    if case.is_self_attention():
        for kind, linear in linears(torch.cat(w[:3]), rows).items():
            found[f'{kind} merged'] = [linear], each[3][kind]
    return found


def functions_of_layer(case, of_inputs, o_of):
    x, y = map(tensor, case.layer_inputs())
    is_merged = len(of_inputs) == 1
    qkv_of = merged(*of_inputs) if is_merged else separate(*of_inputs)
    return layer_functions(case, x, y, qkv_of, o_of, is_merged)


def layer_ways(case):
    ways = {}
    for kind, (of_inputs, o_of) in projections(case).items():
        for name, function in functions_of_layer(case, of_inputs, o_of).items():
            ways[f'{kind}, {name}'] = Way(function)
    x, y = map(tensor, case.layer_inputs())
    module, call = module_of(case, list(map(tensor, case.weights())), bias=True)
    module.eval()
    ways['nn.MultiheadAttention'] = Way(lambda: call(x, y))
    return ways


def compiled(case, fastest):
    """Of the fastest way, where it is one that can be compiled. The compiler leaves projections as
    they are: it would pack weights for MKL, whatever is the fastest here. What it compiles cannot
    be held to less than the CPU has."""
    if 'ATEN_CPU_CAPABILITY' in os.environ:
        return {}
    kind, _, name = fastest.partition(', ')
    if case.kind == 'training':
        way = training_ways(case, wrap=torch.compiler.disable)[fastest]
        way.forward = torch.compile(way.forward, dynamic=False)
    elif case.kind == 'layer' and name:
        of_inputs, o_of = projections(case)[kind]
        of_inputs, o_of = map(torch.compiler.disable, of_inputs), torch.compiler.disable(o_of)
        function = functions_of_layer(case, list(of_inputs), o_of)[name]
        way = Way(torch.compile(function, dynamic=False))
    else:
        return {}
    return {f'compiled, {fastest}': (way, way.output)}


@torch.inference_mode(False)
def training_ways(case, wrap=lambda linear: linear):
    x = tensor(case.layer_inputs()[0]).requires_grad_()
    w = [tensor(one).requires_grad_() for one in case.weights()]
    w_qkv = torch.cat(w[:3]).detach().requires_grad_()
    grad_output = tensor(case.grad_output())
    ways = {}
    for kind, linear in trained_linears.items():
        linear = wrap(linear)
        *of_inputs, o_of, qkv_of = (functools.partial(linear, w=one) for one in (*w, w_qkv))
        for name, function in layer_functions(case, x, x, separate(*of_inputs), o_of).items():
            ways[f'{kind}, {name}'] = Trained(function, [x, *w], grad_output)
        functions = layer_functions(case, x, x, merged(qkv_of), o_of, is_merged=True)
        for name, function in functions.items():
            ways[f'{kind} merged, {name}'] = Trained(function, [x, w_qkv, w[3]], grad_output,
                                                     split={1: 3})
    module, call = module_of(case, [one.detach() for one in w], bias=False)
    ways['nn.MultiheadAttention'] = Trained(lambda: call(x, x), [x, *module.parameters()],
                                            grad_output, split={1: 3})
    return ways


@torch.inference_mode(False)
def attention_backward_ways(case):
    qkv = [tensor(x).requires_grad_() for x in case.qkv]
    return {
        name: Trained(functools.partial(attend, *qkv, is_causal=case.is_causal()), qkv,
                      tensor(case.grad_output()), is_kept=True)
        for name, attend in attentions.items() if name != 'sdpa math'
    }


def ways(case, threads):
    torch.set_num_threads(threads)
    of_kind = {'projection': projection_ways, 'attention': attention_ways, 'layer': layer_ways,
               'attention_backward': attention_backward_ways, 'training': training_ways}
    return {name: (way, way.output) for name, way in of_kind[case.kind](case).items()}


if __name__ == '__main__':
    torch.set_num_interop_threads(1)
    with torch.inference_mode():
        protocol.run('PyTorch', f'{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}',
                     ways, compiled)
