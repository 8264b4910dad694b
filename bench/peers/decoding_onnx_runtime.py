# SPDX-License-Identifier: MIT
"""ONNX Runtime: its GroupQueryAttention, which turns queries and keys and appends to its past in place,
SkipLayerNormalization and BiasGelu; the next token is chosen in the graph. Every input and output is bound
to memory once. Projections as MatMul or as Gemm, weights packed when the session begins (without that it
takes 1.4 to 1.6 times as long).
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import decoding
from encoder_onnx_runtime import ELEMENTS, MICROSOFT, Model

OrtValue = onnxruntime.OrtValue


class Graph(Model):
    """What a graph of decoding has besides: outputs with names of their own, and state in place."""

    def __init__(self, gemm):
        super().__init__()
        self.gemm = gemm

    def linear(self, x, weight, bias, rows):
        """weight: [out, in]. rows: the shape of the result."""
        if not self.gemm:
            y = self.node('MatMul', [x, self.constant(weight.T)], domain='')
            return self.node('Add', [y, self.constant(bias)], domain='') if bias is not None else y
        flat = self.node('Reshape', [x, self.constant(np.array([-1, weight.shape[1]]))], domain='')
        inputs = [flat, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        y = self.node('Gemm', inputs, domain='', transB=1)
        return self.node('Reshape', [y, self.constant(np.array([*rows, weight.shape[0]]))],
                         domain='')

    def attention(self, qkv, i, case, rotary):
        """A layer's, of [B, n, (H + 2 G) D], with its past: 'keys0' becomes 'new_keys0'."""
        inputs = [qkv, '', '', f'keys{i}', f'values{i}', 'seen', 'total', *rotary]
        name = f'attention{i}'
        self.nodes.append(
            helper.make_node('GroupQueryAttention', inputs,
                             [name, f'new_keys{i}', f'new_values{i}'], domain=MICROSOFT,
                             num_heads=case.H, kv_num_heads=case.G, do_rotary=int(bool(rotary))))
        return name

    def build(self, inputs, outputs, threads):
        infos = [helper.make_tensor_value_info(name, ELEMENTS[np.dtype(kind)], shape)
                 for name, (kind, shape) in inputs.items()]
        results = [helper.make_tensor_value_info(name, ELEMENTS[np.dtype(kind)], None)
                   for name, kind in outputs.items()]
        model = helper.make_model(
            helper.make_graph(self.nodes, 'decoder', infos, results, self.constants),
            opset_imports=[helper.make_opsetid('', 20), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                            providers=['CPUExecutionProvider'])


def filled(shape, kind=np.float32):
    return OrtValue.ortvalue_from_numpy(np.zeros(shape, kind))


def bind(binding, inputs, outputs):
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)


def past_shapes(case, layers, capacity):
    return {f'{what}{i}': (np.float32, [case.B, case.G, capacity, case.D])
            for i in range(layers) for what in ('keys', 'values')}


# ---- The model ------------------------------------------------------------------------------------


class Way:

    def __init__(self, case, threads, gemm):
        self.case, self.threads, self.gemm, self.session = case, threads, gemm, None

    def graph(self, model):
        """ids: [B, n] -> logits: [B, vocabulary], next: [B, 1]"""
        c = self.case

        def normed(x, weight, bias):
            return model.node('LayerNormalization',
                              [x, model.constant(weight), model.constant(bias)], domain='', axis=-1,
                              epsilon=1e-5)

        def normed_sum(x, y, bias, weight, shift):
            """norm(x + y + bias), x + y + bias"""
            name = f'skip{len(model.nodes)}'
            model.nodes.append(
                helper.make_node('SkipLayerNormalization',
                                 [x, y, model.constant(weight), model.constant(shift),
                                  model.constant(bias)], [name, '', '', f'{name}_sum'],
                                 domain=MICROSOFT, epsilon=1e-5))
            return name, f'{name}_sum'

        rows = (c.B, -1)
        rotary = [model.constant(x) for x in c.angles()]
        x = model.node('Gather', [model.constant(c.embedding()), 'ids'], domain='')
        layers = [c.layer(i) for i in range(c.layers)]
        norms = [*((p['norm1.weight'], p['norm1.bias']) for p in layers[1:]), c.norm()]
        normal = normed(x, layers[0]['norm1.weight'], layers[0]['norm1.bias'])
        for i, (p, next_norm) in enumerate(zip(layers, norms)):
            qkv = model.linear(normal, p['qkv.weight'], p['qkv.bias'], rows)
            y = model.linear(model.attention(qkv, i, c, rotary), p['self_attention.W_o.weight'],
                             None, rows)
            normal, x = normed_sum(x, y, p['self_attention.W_o.bias'], p['norm2.weight'],
                                   p['norm2.bias'])
            hidden = model.linear(normal, p['feed_forward.up.weight'], None, rows)
            hidden = model.node('BiasGelu', [hidden, model.constant(p['feed_forward.up.bias'])])
            y = model.linear(hidden, p['feed_forward.down.weight'], None, rows)
            normal, x = normed_sum(x, y, p['feed_forward.down.bias'], *next_norm)
        last = model.node('Gather', [normal, model.constant(np.array(-1))], domain='', axis=1)
        last = model.node('Reshape', [last, model.constant(np.array([c.B, c.E]))], domain='')
        weight, bias = c.linear('head')
        model.nodes.append(
            helper.make_node('Gemm', [last, model.constant(weight), model.constant(bias)],
                             ['logits'], transB=1))
        model.nodes.append(helper.make_node('ArgMax', ['logits'], ['next'], axis=-1, keepdims=1))

    def prepare(self):
        c = self.case
        past = past_shapes(c, c.layers, c.capacity)
        model = Graph(self.gemm)
        self.graph(model)
        inputs = {'ids': (np.int64, [c.B, None]), 'seen': (np.int32, [c.B]),
                  'total': (np.int32, [1]), **past}
        outputs = {'logits': np.float32, 'next': np.int64,
                   **{f'new_{name}': np.float32 for name in past}}
        self.session = model.build(inputs, outputs, self.threads)
        cache = {name: filled(shape) for name, (_, shape) in past.items()}
        self.logits_, self.next = filled((c.B, c.vocabulary)), filled((c.B, 1), np.int64)
        state = {'seen': filled((c.B,), np.int32), 'total': filled((1,), np.int32)}
        self.state = state
        prompt = OrtValue.ortvalue_from_numpy(c.prompt_ids())
        self.bindings = {}
        for name, ids in (('prompt', prompt), ('step', self.next)):
            self.bindings[name] = self.session.io_binding()
            bind(self.bindings[name], {'ids': ids, **state, **cache},
                 {'logits': self.logits_, 'next': self.next,
                  **{f'new_{name}': value for name, value in cache.items()}})

    def call(self, binding, total):
        self.state['seen'].update_inplace(np.full(self.case.B, total - 1, np.int32))
        self.state['total'].update_inplace(np.array([total], np.int32))
        self.session.run_with_iobinding(self.bindings[binding])
        self.written.append(self.logits_.numpy().copy())

    def read_prompt(self):
        if self.session is None:
            self.prepare()
        self.written = []
        self.call('prompt', self.case.prompt)

    def step(self, i):
        self.call('step', self.case.prompt + i)

    def logits(self):
        return np.stack(self.written)


def model_ways(case, threads):
    return {'MatMul': Way(case, threads, gemm=False), 'Gemm': Way(case, threads, gemm=True)}


# ---- A step over a cache --------------------------------------------------------------------------


class StepWay:

    def __init__(self, case, threads):
        self.case, self.threads, self.session = case, threads, None

    def prepare(self):
        c = self.case
        model = Graph(gemm=True)
        parts = [c.linear(f'W_{x}') for x in 'qkv']
        qkv = model.linear('x', *(np.concatenate([one[i] for one in parts]) for i in range(2)),
                           (c.B, -1))
        y = model.linear(model.attention(qkv, 0, c, []), *c.linear('W_o'), (c.B, -1))
        past = past_shapes(c, 1, c.K)
        inputs = {'x': (np.float32, [c.B, 1, c.E]), 'seen': (np.int32, [c.B]),
                  'total': (np.int32, [1]), **past}
        outputs = {y: np.float32, **{f'new_{name}': np.float32 for name in past}}
        self.session = model.build(inputs, outputs, self.threads)
        cache = {f'{name}0': OrtValue.ortvalue_from_numpy(
            np.ascontiguousarray(np.broadcast_to(c.kept(name), (c.B, c.G, c.K, c.D))))
            for name in ('keys', 'values')}
        self.y = filled((c.B, 1, c.E))
        self.binding = self.session.io_binding()
        bind(self.binding,
             {'x': OrtValue.ortvalue_from_numpy(c.x()),
              'seen': OrtValue.ortvalue_from_numpy(np.full(c.B, c.K - 1, np.int32)),
              'total': OrtValue.ortvalue_from_numpy(np.array([c.K], np.int32)), **cache},
             {y: self.y, **{f'new_{name}': value for name, value in cache.items()}})

    def __call__(self):
        if self.session is None:
            self.prepare()
        self.session.run_with_iobinding(self.binding)

    def output(self):
        return self.y.numpy()


def step_ways(case, threads):
    if case.stored != 'float32':
        return {}
    way = StepWay(case, threads)
    return {'GroupQueryAttention': (way, way.output)}


if __name__ == '__main__':
    decoding.run('ONNX Runtime', f'{onnxruntime.__version__}, onnx {onnx.__version__}', model_ways,
                 step_ways)
