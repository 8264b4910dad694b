# SPDX-License-Identifier: MIT
"""PyTorch: functions over a static cache, [B, G, capacity, D], into which the new keys and values are
copied. Attention by scaled_dot_product_attention, over the keys that there are or over all of them with a
mask, with enable_gqa or with heads expanded; or by hand, as two products for all heads that share keys.
As it is and compiled for the shapes of the prompt and of a step; with weights that the compiler may pack,
and packed beforehand for oneDNN.
"""
import math

import torch
from torch.nn import functional as F

import decoding
from encoder_pytorch import Linear, PackedLinear

tensor = torch.from_numpy


# ---- Attention of new queries, [B, H, n, D], to a cache -------------------------------------------


def enable_gqa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def expanded(q, k, v, mask):
    each = q.shape[1] // k.shape[1]
    if each > 1:
        k, v = (x.repeat_interleave(each, 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def by_hand(q, k, v, mask):
    B, H, n, D = q.shape
    grouped = q.reshape(B, k.shape[1], -1, D)
    scores = grouped @ k.transpose(-1, -2) * (1 / math.sqrt(D))
    if mask is not None:
        scores = scores.view(B, k.shape[1], -1, n, k.shape[2]) + mask
        scores = scores.view(B, k.shape[1], -1, k.shape[2])
    return (scores.softmax(-1) @ v).view(B, H, n, D)


ATTENTIONS = {'enable_gqa': enable_gqa, 'expanded heads': expanded, 'by hand': by_hand}


# ---- oneDNN's packed products, as an operator that the compiler takes -----------------------------

library = torch.library.Library('decoding', 'DEF')
library.define('linear(Tensor x, int number, int size) -> Tensor')
packed_linears = []


@torch.library.impl(library, 'linear', 'CPU')
def packed_product(x, number, size):
    return packed_linears[number](x)


@torch.library.register_fake('decoding::linear')
def shape_of_product(x, number, size):
    return x.new_empty(*x.shape[:-1], size)


class OperatorLinear(torch.nn.Module):

    def __init__(self, w, b, gelu=False):
        super().__init__()
        self.number, self.size = len(packed_linears), len(w)
        packed_linears.append(PackedLinear(w, b, gelu))

    def forward(self, x):
        return torch.ops.decoding.linear(x, self.number, self.size)


# ---- The model ------------------------------------------------------------------------------------


class Norm(torch.nn.Module):

    def __init__(self, weight, bias):
        super().__init__()
        self.register_buffer('weight', weight)
        self.register_buffer('bias', bias)

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


class Layer(torch.nn.Module):

    def __init__(self, case, number, attention, linear):
        super().__init__()
        p = {name: tensor(value.copy()) for name, value in case.layer(number).items()}
        of = lambda name, **more: linear(p[f'{name}.weight'], p[f'{name}.bias'], **more)
        self.qkv, self.o = of('qkv'), of('self_attention.W_o')
        self.up, self.down = of('feed_forward.up', gelu=True), of('feed_forward.down')
        self.norm1, self.norm2 = (Norm(p[f'{name}.weight'], p[f'{name}.bias'])
                                  for name in ('norm1', 'norm2'))
        self.case, self.attention = case, attention

    def forward(self, x, cos, sin, positions, seen, mask, keys, values):
        """seen: how many keys of the cache are looked at."""
        c = self.case
        qkv = self.qkv(self.norm1(x))
        q, k, v = qkv.view(*x.shape[:2], -1, c.D).transpose(1, 2).split((c.H, c.G, c.G), 1)

        def turned(y):
            first, second = y.chunk(2, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

        keys.index_copy_(2, positions, turned(k))
        values.index_copy_(2, positions, v)
        y = self.attention(turned(q), keys[:, :, :seen], values[:, :, :seen], mask)
        x = x + self.o(y.transpose(1, 2).flatten(-2))
        return x + self.down(self.up(self.norm2(x)))


class LanguageModel(torch.nn.Module):

    def __init__(self, case, attention, linear):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer(case, i, attention, linear)
                                          for i in range(case.layers))
        for name, value in (('embedding', case.embedding()), ('cos', case.angles()[0]),
                            ('sin', case.angles()[1])):
            self.register_buffer(name, tensor(value.copy()))
        self.norm = Norm(*(tensor(part.copy()) for part in case.norm()))
        self.head = linear(*(tensor(part.copy()) for part in case.linear('head')))

    def forward(self, ids, positions, seen, mask, caches):
        """-> what follows the last of them: logits, [B, vocabulary], and the likeliest, [B, 1]"""
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[positions], self.sin[positions]
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, positions, seen, mask, caches[2 * i], caches[2 * i + 1])
        logits = self.head(self.norm(x[:, -1]))
        return logits, logits.argmax(-1, keepdim=True)


class Way:
    """masked: all keys of the cache are looked at, and a mask hides those that are none yet."""

    def __init__(self, case, function, masked):
        self.case, self.function, self.masked = case, function, masked
        self.ids = tensor(case.prompt_ids())
        self.positions = torch.arange(case.capacity)
        # [capacity, capacity]
        self.mask = torch.full((case.capacity, case.capacity), -math.inf).triu(1)
        self.caches = [torch.zeros(case.B, case.G, case.capacity, case.D)
                       for _ in range(2 * case.layers)]

    def call(self, ids, first):
        positions = self.positions[first:first + ids.shape[1]]
        seen = self.case.capacity if self.masked else first + ids.shape[1]
        needs_mask = self.masked or ids.shape[1] > 1
        mask = self.mask[first:first + ids.shape[1], :seen] if needs_mask else None
        logits, self.next = self.function(ids, positions, seen, mask, self.caches)
        self.written.append(logits)

    def read_prompt(self):
        self.written = []
        self.call(self.ids, 0)

    def step(self, i):
        self.call(self.next, self.case.prompt + i - 1)

    def logits(self):
        return torch.stack(self.written).numpy()


def model_ways(case, threads):
    torch.set_num_threads(threads)
    packed = {name: LanguageModel(case, attention, PackedLinear)
              for name, attention in ATTENTIONS.items()}
    ways = {f'oneDNN packed, {name}': Way(case, model, masked=False)
            for name, model in packed.items()}
    plain = LanguageModel(case, by_hand, Linear)
    ways['by hand'] = Way(case, plain, masked=False)
    # The other two attentions compiled took longer, and so did max_autotune's products.
    for name, model in (('', plain), ('oneDNN packed, ', LanguageModel(case, by_hand,
                                                                      OperatorLinear))):
        compiled = torch.compile(model, dynamic=False, options={'freezing': True})
        ways[f'compiled, {name}by hand'] = Way(case, compiled, masked=True)
    return ways


# ---- A step over a cache --------------------------------------------------------------------------


class AttentionStep(torch.nn.Module):

    def __init__(self, case, attention):
        super().__init__()
        self.case, self.attention = case, attention
        parts = [case.linear(f'W_{x}') for x in 'qkv']
        for i, part in enumerate(('weight', 'bias')):
            joined = torch.cat([tensor(one[i].copy()) for one in parts])
            self.register_buffer(f'qkv_{part}', joined)
            self.register_buffer(f'o_{part}', tensor(case.linear('W_o')[i].copy()))

    def forward(self, x, position, keys, values):
        c = self.case
        qkv = F.linear(x, self.qkv_weight, self.qkv_bias).to(keys.dtype)
        q, k, v = qkv.view(c.B, 1, -1, c.D).transpose(1, 2).split((c.H, c.G, c.G), 1)
        keys.index_copy_(2, position, k)
        values.index_copy_(2, position, v)
        y = self.attention(q, keys, values, None).transpose(1, 2).flatten(-2)
        return F.linear(y.to(x.dtype), self.o_weight, self.o_bias)


class StepWay:

    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments

    def __call__(self):
        self.result = self.function(*self.arguments)

    def output(self):
        return self.result.numpy()


def step_ways(case, threads):
    torch.set_num_threads(threads)
    x, position = tensor(case.x()), torch.tensor([case.K - 1])
    keys, values = (
        tensor(case.kept(name)).to(getattr(torch, case.stored)).expand(case.B, case.G, -1, -1).clone()
        for name in ('keys', 'values'))
    ways = {}
    for name, attention in ATTENTIONS.items():
        if name == 'expanded heads':  # copies all keys and values, or is as enable_gqa
            continue
        step = AttentionStep(case, attention)
        ways[name] = StepWay(step, (x, position, keys, values))
        if case.K <= 1024:  # with more keys there is nothing that the compiler could save
            compiled = torch.compile(step, dynamic=False, options={'freezing': True})
            ways[f'compiled, {name}'] = StepWay(compiled, (x, position, keys, values))
    return {name: (way, way.output) for name, way in ways.items()}


if __name__ == '__main__':
    torch.set_num_interop_threads(1)
    torch._dynamo.config.recompile_limit = 64
    with torch.inference_mode():
        decoding.run('PyTorch', f'{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}',
                     model_ways, step_ways)
