# SPDX-License-Identifier: MIT
"""ONNX Runtime: its own Attention or MultiHeadAttention, BiasGelu and SkipLayerNormalization, padded, or
with padding left out of all but the attention. One session for all batches, whose sizes are inputs'.
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import encoder

MICROSOFT = 'com.microsoft'
ELEMENTS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32,
            np.dtype(np.int64): TensorProto.INT64}


class Model:
    """Nodes and constants; all sizes of its inputs are free."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f'constant{len(self.constants)}'
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator, inputs, domain=MICROSOFT, **attributes):
        name = f'{operator}{len(self.nodes)}'
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def session(self, inputs, output, threads):
        infos = [helper.make_tensor_value_info(name, ELEMENTS[x.dtype], [None] * x.ndim)
                 for name, x in inputs.items()]
        model = helper.make_model(
            helper.make_graph(self.nodes, 'encoder', infos,
                              [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                              self.constants),
            opset_imports=[helper.make_opsetid('', 20), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                            providers=['CPUExecutionProvider'])


class Way:
    """build(model) -> name of the output. batches: inputs by name; rows(y, i): those that count."""

    def __init__(self, build, batches, threads, rows=lambda y, i: y):
        self.build, self.batches, self.threads, self.rows = build, batches, threads, rows
        self.bindings = None

    def prepare(self):
        model = Model()
        output = self.build(model)
        self.session = model.session(self.batches[0], output, self.threads)
        self.bindings, self.results = [], []
        for batch in self.batches:
            binding = self.session.io_binding()
            for name, x in batch.items():
                binding.bind_cpu_input(name, np.ascontiguousarray(x))
            binding.bind_output(output)
            self.session.run_with_iobinding(binding)
            # From the second call on the output has its memory.
            self.results.append(binding.get_outputs()[0])
            binding.bind_ortvalue_output(output, self.results[-1])
            self.bindings.append(binding)

    def __call__(self):
        if self.bindings is None:
            self.prepare()
        for binding in self.bindings:
            self.session.run_with_iobinding(binding)

    def output(self):
        return [np.concatenate([self.rows(y.numpy(), i).reshape(-1)
                                for i, y in enumerate(self.results)])]


def encoder_ways(case, threads):
    padded = list(case.padded())
    layers = [case.layer(i) for i in range(case.layers)]
    has_padding = not all(counts.all() for _, counts in padded)
    lens = [np.array(batch, np.int32) for batch in case.batches]

    def after(model, p, x, attended):
        """The residual and norm, the feed-forward network, its residual and norm."""
        def norm(x, y, bias, name):
            return model.node('SkipLayerNormalization',
                              [x, y, model.constant(p[f'{name}.weight']),
                               model.constant(p[f'{name}.bias']), model.constant(bias)],
                              epsilon=1e-5)

        def matmul(x, name):
            return model.node('MatMul', [x, model.constant(p[f'{name}.weight'].T)], domain='')

        x = norm(x, matmul(attended, 'self_attention.W_o'), p['self_attention.W_o.bias'], 'norm1')
        hidden = model.node('BiasGelu', [matmul(x, 'feed_forward.up'),
                                         model.constant(p['feed_forward.up.bias'])])
        return norm(x, matmul(hidden, 'feed_forward.down'), p['feed_forward.down.bias'], 'norm2')

    def merged(p, kind):
        parts = [p[f'self_attention.W_{x}.{kind}'] for x in 'qkv']
        return np.concatenate([part.T for part in parts], -1) if kind == 'weight' else \
            np.concatenate(parts)

    def attention(model):
        x = 'x'
        for p in layers:
            inputs = [x, model.constant(merged(p, 'weight')), model.constant(merged(p, 'bias'))]
            if has_padding:
                inputs.append('lens')
            x = after(model, p, x, model.node('Attention', inputs, num_heads=case.H))
        return x

    def multi_head(model):
        x = 'x'
        for p in layers:
            qkv = [model.node('MatMul',
                              [x, model.constant(p[f'self_attention.W_{name}.weight'].T)],
                              domain='') for name in 'qkv']
            inputs = [*qkv, model.constant(merged(p, 'bias'))]
            if has_padding:
                inputs.append('lens')
            x = after(model, p, x, model.node('MultiHeadAttention', inputs, num_heads=case.H))
        return x

    def padding_left_out(model):
        """x: [1, N, E]; places: of its rows in [B * L]; back: a row of x for each of those."""
        x = 'x'
        for p in layers:
            parts = []
            for name in 'qkv':
                y = model.node('MatMul',
                               [x, model.constant(p[f'self_attention.W_{name}.weight'].T)],
                               domain='')
                y = model.node('Gather', [y, 'back'], domain='', axis=1)
                parts.append(model.node('Reshape', [y, 'shape'], domain=''))
            heads = model.node('MultiHeadAttention',
                               [*parts, model.constant(merged(p, 'bias')), 'lens'],
                               num_heads=case.H)
            heads = model.node('Reshape', [heads, model.constant(np.array([1, -1, case.E]))],
                               domain='')
            heads = model.node('Gather', [heads, 'places'], domain='', axis=1)
            x = after(model, p, x, heads)
        return x

    rows_of = lambda y, i: y[padded[i][1]]
    whole = [{'x': x, 'lens': n} if has_padding else {'x': x} for (x, _), n in zip(padded, lens)]
    found = {'Attention': Way(attention, whole, threads, rows_of),
             'MultiHeadAttention': Way(multi_head, whole, threads, rows_of)}
    if has_padding:
        left_out = []
        for rows, (x, counts), n in zip(case.rows('_x'), padded, lens):
            back = np.zeros(counts.size, np.int64)
            places = counts.ravel().nonzero()[0]
            back[places] = np.arange(len(places))
            left_out.append({'x': rows[None], 'lens': n, 'back': back, 'places': places,
                             'shape': np.array([*counts.shape, case.E])})
        found['padding left out of all but attention'] = Way(padding_left_out, left_out, threads)
    return {name: (way, way.output) for name, way in found.items()}


def ways(case, threads):
    return {} if case.is_training else encoder_ways(case, threads)


if __name__ == '__main__':
    encoder.run('ONNX Runtime', f'{onnxruntime.__version__}, onnx {onnx.__version__}', ways)
