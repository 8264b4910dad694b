# SPDX-License-Identifier: MIT
"""PyTorch: nn.TransformerEncoder, whose fast path leaves padding out by nested tensors; layers of its
functions, padded with a mask, or with padding left out of all but the attention, or of that too (a call
for each sentence); linear layers as they are and with weights packed beforehand by oneDNN, GELU fused
into the first of the feed-forward network. The functions compiled, too.
"""
import functools

import torch
from torch.nn import functional as F

import encoder

tensor = torch.from_numpy


class Linear(torch.nn.Module):
    """x W^T + b, then perhaps GELU."""

    def __init__(self, w, b, gelu=False):
        super().__init__()
        self.register_buffer('w', w)
        self.register_buffer('b', b)
        self.gelu = gelu

    def forward(self, x):
        y = F.linear(x, self.w, self.b)
        return F.gelu(y) if self.gelu else y


class PackedLinear(Linear):
    """The same with a weight that was packed beforehand, and GELU in the same operator."""

    def __init__(self, w, b, gelu=False):
        super().__init__(w, b, gelu)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(w)

    # The compiler takes this operator only from its own passes.
    @torch.compiler.disable
    def forward(self, x):
        return torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.b, 'gelu' if self.gelu else 'none', [],
            'none' if self.gelu else '')


class Layer(torch.nn.Module):
    """One layer of functions."""

    def __init__(self, case, number, linear):
        super().__init__()
        p = {name: tensor(value.copy()) for name, value in case.layer(number).items()}
        self.H, self.E, self.eps = case.H, case.E, getattr(case, 'eps', 1e-5)
        of = lambda kind: [p[f'self_attention.W_{x}.{kind}'] for x in 'qkv']
        self.qkv = linear(torch.cat(of('weight')), torch.cat(of('bias')))
        self.o = linear(p['self_attention.W_o.weight'], p['self_attention.W_o.bias'])
        self.up = linear(p['feed_forward.up.weight'], p['feed_forward.up.bias'], gelu=True)
        self.down = linear(p['feed_forward.down.weight'], p['feed_forward.down.bias'])
        for norm in ('norm1', 'norm2'):
            for part in ('weight', 'bias'):
                self.register_buffer(f'{norm}_{part}', p[f'{norm}.{part}'])

    def heads(self, qkv):
        """[..., L, 3 E] -> three of [..., H, L, D]"""
        return (x.unflatten(-1, (self.H, -1)).transpose(-2, -3) for x in qkv.chunk(3, -1))

    def forward(self, x, attend):
        size = (self.E,)
        x = F.layer_norm(x + self.o(attend(self, self.qkv(x))), size, self.norm1_weight,
                         self.norm1_bias, self.eps)
        return F.layer_norm(x + self.down(self.up(x)), size, self.norm2_weight, self.norm2_bias,
                            self.eps)


def attend_padded(layer, qkv, mask):
    y = F.scaled_dot_product_attention(*layer.heads(qkv), attn_mask=mask)
    return y.transpose(-2, -3).flatten(-2)


def attend_scattered(layer, qkv, mask, places, shape):
    """qkv: rows that count; their places in [B * L]."""
    padded = qkv.new_zeros(shape[0] * shape[1], qkv.shape[-1]).index_copy(0, places, qkv)
    y = attend_padded(layer, padded.view(*shape, -1), mask)
    return y.flatten(0, 1).index_select(0, places)


def attend_each(layer, qkv, lens):
    return torch.cat([attend_padded(layer, one, None) for one in qkv.split(lens)])


class Layers(torch.nn.Module):
    """All layers, with an attention that is given more arguments."""

    def __init__(self, case, linear, attend):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer(case, i, linear) for i in range(case.layers))
        self.attend = attend

    def forward(self, x, *arguments):
        for layer in self.layers:
            x = layer(x, lambda one, qkv: self.attend(one, qkv, *arguments))
        return x


class Way:
    """A function of each batch. batches: its arguments; rows: of what it gives, those that count."""

    def __init__(self, function, batches, rows=lambda y, i: y):
        self.function, self.batches, self.rows = function, batches, rows

    def __call__(self):
        self.results = [self.function(*batch) for batch in self.batches]

    def output(self):
        return [torch.cat([self.rows(y, i) for i, y in enumerate(self.results)]).numpy()]


def module_of(case, number):
    """nn.TransformerEncoderLayer with a layer's weights."""
    p = {name: tensor(value.copy()) for name, value in case.layer(number).items()}
    module = torch.nn.TransformerEncoderLayer(case.E, case.H, case.hidden, dropout=0.0,
                                              activation='gelu', batch_first=True)
    merged = lambda kind: torch.cat([p[f'self_attention.W_{x}.{kind}'] for x in 'qkv'])
    names = {'self_attn.in_proj_weight': merged('weight'),
             'self_attn.in_proj_bias': merged('bias'),
             'self_attn.out_proj.weight': p['self_attention.W_o.weight'],
             'self_attn.out_proj.bias': p['self_attention.W_o.bias'],
             'linear1.weight': p['feed_forward.up.weight'],
             'linear1.bias': p['feed_forward.up.bias'],
             'linear2.weight': p['feed_forward.down.weight'],
             'linear2.bias': p['feed_forward.down.bias']}
    names.update({f'{norm}.{part}': p[f'{norm}.{part}'] for norm in ('norm1', 'norm2')
                  for part in ('weight', 'bias')})
    module.load_state_dict(names)
    return module


def encoder_ways(case):
    padded = [(tensor(x), tensor(counts)) for x, counts in case.padded()]
    packed = [tensor(rows.copy()) for rows in case.rows('_x')]
    has_padding = not all(counts.all() for _, counts in padded)
    masks = [counts[:, None, None] if has_padding else None for _, counts in padded]
    places = [counts.flatten().nonzero().squeeze(1) for _, counts in padded]
    rows_of = lambda y, i: y[padded[i][1]]

    padded_batches = [(x, mask) for (x, _), mask in zip(padded, masks)]
    packed_batches = [(x, mask, where, tuple(counts.shape))
                      for x, mask, where, (_, counts) in zip(packed, masks, places, padded)]
    # Compiled for all batches together; weights are the graph's constants, which it may pack.
    torch._inductor.config.freezing = True
    compiled = functools.partial(torch.compile, dynamic=len(padded) > 1)
    ways = {}
    for name, linear in (('linear', Linear), ('oneDNN packed', PackedLinear)):
        whole = Layers(case, linear, attend_padded)
        ways[f'{name}, padded'] = Way(whole, padded_batches, rows_of)
        ways[f'compiled, {name}, padded'] = Way(compiled(whole), padded_batches, rows_of)
        if has_padding:
            scattered = Layers(case, linear, attend_scattered)
            left_out = f'{name}, padding left out of all but attention'
            ways[left_out] = Way(scattered, packed_batches)
            ways[f'compiled, {left_out}'] = Way(compiled(scattered), packed_batches)
            ways[f'{name}, padding left out'] = Way(Layers(case, linear, attend_each),
                                                    list(zip(packed, case.batches)))
    stack = torch.nn.TransformerEncoder(module_of(case, 0), case.layers,
                                        enable_nested_tensor=True).eval()
    for i, layer in enumerate(stack.layers):
        layer.load_state_dict(module_of(case, i).state_dict())
    hidden = [(x, ~counts if has_padding else None) for x, counts in padded]
    ways['nn.TransformerEncoder'] = Way(
        lambda x, mask: stack(x, src_key_padding_mask=mask), hidden,
        lambda y, i: y[padded[i][1][:, :y.shape[1]]])
    return {name: (way, way.output) for name, way in ways.items()}


class Trained:
    """Forward, then the gradients of all parameters and of the input."""

    def __init__(self, function, x, parameters, grad):
        self.function, self.x, self.parameters, self.grad = function, x, parameters, grad

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __call__(self):
        self.result = self.function(self.x)
        self.gradients = torch.autograd.grad(self.result, [self.x, *self.parameters], self.grad)

    def output(self):
        return [self.result.detach().numpy(), self.gradients[0].numpy()]


@torch.inference_mode(False)
@torch.enable_grad()
def training_ways(case):
    shape = (len(case.batches[0]), case.batches[0][0], case.E)
    x = tensor(case.load('_x').reshape(shape)).requires_grad_()
    grad = tensor(case.load('_grad').reshape(shape))
    module = module_of(case, 0).train()
    parameters = list(module.parameters())

    def functions(x, linear):
        qkv = linear(x, module.self_attn.in_proj_weight, module.self_attn.in_proj_bias)
        q, k, v = (z.unflatten(-1, (case.H, -1)).transpose(1, 2) for z in qkv.chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        out = module.self_attn.out_proj
        x = module.norm1(x + linear(y, out.weight, out.bias))
        hidden = F.gelu(linear(x, module.linear1.weight, module.linear1.bias))
        return module.norm2(x + linear(hidden, module.linear2.weight, module.linear2.bias))

    def onednn(x, w, b):
        return torch._C._nn.mkldnn_linear(x.to_mkldnn(), w, b).to_dense()

    found = {'nn.TransformerEncoderLayer': module,
             'functions': lambda x: functions(x, F.linear),
             'functions, oneDNN': lambda x: functions(x, onednn),
             'compiled, functions': torch.compile(lambda x: functions(x, F.linear)),
             'compiled, nn.TransformerEncoderLayer': torch.compile(module)}
    ways = {name: Trained(one, x, parameters, grad) for name, one in found.items()}
    return {name: (way, way.output) for name, way in ways.items()}


def ways(case, threads):
    torch.set_num_threads(threads)
    return training_ways(case) if case.is_training else encoder_ways(case)


if __name__ == '__main__':
    torch.set_num_interop_threads(1)
    with torch.inference_mode():
        encoder.run('PyTorch', f'{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}',
                    ways)
