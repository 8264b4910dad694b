# SPDX-License-Identifier: MIT
"""ONNX Runtime: its own MultiHeadAttention, Attention and GroupQueryAttention, ONNX's Attention,
and products composed, in graphs of a few nodes. Weights are constants, so they are packed when a
session is made; inputs and outputs are bound beforehand, in the layout that an operator likes best.
In double it has products alone: no attention operator, so no layer.
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import protocol

MICROSOFT = 'com.microsoft'


def together(x):
    """[B, H, rows, D] -> [B, rows, H * D]"""
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(x.shape[0], x.shape[2], -1)


class Graph:
    """Nodes, constants and inputs by name; the last node's first output is what is computed."""

    def __init__(self):
        self.nodes, self.inputs, self.constants = [], {}, []

    def input(self, name, value):
        self.inputs[name] = np.ascontiguousarray(value)
        return name

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def nodes_of(self, operator, inputs, outputs, domain='', **attributes):
        names = [f'{operator}{len(self.nodes)}_{i}' for i in range(outputs)]
        self.nodes.append(
            helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names

    def node(self, operator, inputs, domain='', outputs=1, **attributes):
        return self.nodes_of(operator, inputs, outputs, domain, **attributes)[0]

    def session(self, threads, opset):
        element = {np.dtype(kind): number for kind, number in (
            (np.float32, TensorProto.FLOAT), (np.float64, TensorProto.DOUBLE),
            (np.int32, TensorProto.INT32), (np.int64, TensorProto.INT64),
            (bool, TensorProto.BOOL))}
        inputs = [helper.make_tensor_value_info(name, element[x.dtype], x.shape)
                  for name, x in self.inputs.items()]
        first = next(iter(self.inputs.values()))
        output = helper.make_tensor_value_info(self.nodes[-1].output[0], element[first.dtype], None)
        model = helper.make_model(
            helper.make_graph(self.nodes, 'attention', inputs, [output], self.constants),
            opset_imports=[helper.make_opsetid('', opset), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                            providers=['CPUExecutionProvider'])


class Way:
    """A graph, made into a session and bound at its first call. build: graph -> None."""

    def __init__(self, build, threads, opset=23, rows_apart=None):
        self.build, self.threads, self.opset, self.rows_apart = build, threads, opset, rows_apart
        self.session = None

    def prepare(self):
        graph = Graph()
        self.build(graph)
        session = graph.session(self.threads, self.opset)
        self.binding = session.io_binding()
        self.kept = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in graph.inputs.values()]
        for name, value in zip(graph.inputs, self.kept):
            self.binding.bind_ortvalue_input(name, value)
        name = session.get_outputs()[0].name
        self.binding.bind_output(name)
        session.run_with_iobinding(self.binding)
        # From the second call on the output has its memory.
        self.result = self.binding.get_outputs()[0]
        self.binding.bind_ortvalue_output(name, self.result)
        self.session = session

    def __call__(self):
        if self.session is None:
            self.prepare()
        self.session.run_with_iobinding(self.binding)

    def output(self):
        """In the library's layout."""
        result = self.result.numpy()
        if self.rows_apart is None or result.ndim == 4:
            return [result]
        B, rows, _ = result.shape
        return [result.reshape(B, rows, self.rows_apart, -1).swapaxes(1, 2)]


def attention_ways(case, threads):
    q, k, v = case.qkv
    additive, is_grouped = case.additive(), case.G != case.H
    scale = case.D**-0.5

    def multi_head(keys_apart):
        def build(graph):
            like = (lambda x: x) if keys_apart else together
            inputs = [graph.input('q', together(q)), graph.input('k', like(k)),
                      graph.input('v', like(v)), '', '']
            if additive is not None:
                inputs.append(graph.input('bias', additive))
            graph.node('MultiHeadAttention', inputs, MICROSOFT, num_heads=case.H,
                       unidirectional=int(case.is_causal()))
        return build

    def standard(layout, mask):
        def build(graph):
            inputs = [graph.input(name, layout(x)) for name, x in zip('qkv', (q, k, v))]
            if mask is not None:
                inputs.append(graph.input('mask', mask))
            heads = {} if layout is not together else dict(q_num_heads=case.H,
                                                           kv_num_heads=case.G)
            graph.node('Attention', inputs, is_causal=int(case.is_causal()), **heads)
        return build

    def grouped(graph):
        """Causal, the last query beside the last key; in decoding the other keys are the past."""
        past = case.K - case.Q
        inputs = [graph.input('q', together(q))]
        inputs += [graph.input(name, together(x[:, :, past:])) for name, x in zip('kv', (k, v))]
        if past:
            inputs += [graph.input(name, x[:, :, :past]) for name, x in zip(('pk', 'pv'), (k, v))]
        else:
            inputs += ['', '']
        inputs.append(graph.constant('last', np.full(case.B, case.K - 1, np.int32)))
        inputs.append(graph.constant('total', np.array(case.K, np.int32)))
        graph.node('GroupQueryAttention', inputs, MICROSOFT, outputs=3, num_heads=case.H,
                   kv_num_heads=case.G, scale=scale)

    def composed(graph):
        scores = graph.node('MatMul', [graph.input('q', q), graph.input('k', k.swapaxes(2, 3))])
        scores = graph.node('Mul', [scores, graph.constant('scale', case.dtype(scale))])
        mask = additive
        if case.is_causal():
            mask = np.where(case.may_see(), case.dtype(0), case.dtype(-np.inf))[:, None]
        if mask is not None:
            scores = graph.node('Add', [scores, graph.input('bias', mask)])
        graph.node('MatMul', [graph.node('Softmax', [scores], axis=-1), graph.input('v', v)])

    def way(build, opset=23):
        return Way(build, threads, opset, rows_apart=case.H)

    apart = lambda x: x
    if case.scalar == 'double':
        return {} if is_grouped else {'composed': way(composed)}
    found = {
        'Attention-23, heads apart': way(standard(apart, additive)),
        'Attention-23, heads together': way(standard(together, additive)),
    }
    if case.hides_pairs():
        found['Attention-23, bool mask'] = way(standard(apart, case.may_see()[:, None]))
    if not is_grouped:
        found['MultiHeadAttention'] = way(multi_head(False))
        found['MultiHeadAttention, keys apart'] = way(multi_head(True))
        found['composed'] = way(composed)
    if case.is_causal() or (case.Q == 1 and additive is None):
        found['GroupQueryAttention'] = way(grouped)
    return found


def layer_ways(case, threads):
    x, y = case.layer_inputs()
    w = [one.T for one in case.weights()]
    lens = np.array(case.lens, np.int32)

    def inputs_of(graph):
        names = [graph.input('x', x)]
        names.append(names[0] if case.is_self_attention() else graph.input('y', y))
        return names

    def project(graph, name, i):
        return graph.node('MatMul', [name, graph.constant(f'w{i}', w[i])])

    def multi_head(graph):
        xs, ys = inputs_of(graph)
        inputs = [project(graph, xs, 0), project(graph, ys, 1), project(graph, ys, 2)]
        if case.lens:
            inputs += ['', graph.input('lens', lens)]
        heads = graph.node('MultiHeadAttention', inputs, MICROSOFT, num_heads=case.H)
        project(graph, heads, 3)

    def standard(graph):
        xs, ys = inputs_of(graph)
        inputs = [project(graph, xs, 0), project(graph, ys, 1), project(graph, ys, 2)]
        if case.lens:
            inputs.append(graph.input('mask', case.may_see()[:, None]))
        heads = graph.node('Attention', inputs, q_num_heads=case.H, kv_num_heads=case.H)
        project(graph, heads, 3)

    def merged(graph):
        inputs = [inputs_of(graph)[0], graph.constant('w', np.concatenate(w[:3], 1)),
                  graph.constant('b', np.zeros(3 * case.E, np.float32))]
        if case.lens:
            inputs.append(graph.input('lens', lens))
        project(graph, graph.node('Attention', inputs, MICROSOFT, num_heads=case.H), 3)

    def padding_left_out(is_apart):
        """Of the projections; and of attention too, by a node for each sequence."""
        counted = case.lens if case.masking == 'query_lens' else [case.Q] * case.B

        def rows_of(graph, name, padded, lens):
            places = np.array([(b, i) for b, n in enumerate(lens) for i in range(n)])
            return graph.node('GatherND',
                              [padded, graph.constant(name, places[None].astype(np.int64))])

        def padded(graph, name, rows, lens, longest):
            first = np.cumsum([0, *lens[:-1]])[:, None]
            places = np.where(np.arange(longest) < np.array(lens)[:, None],
                              first + np.arange(longest), 0)  # any row stands for padding
            rows = graph.node('Gather', [rows, graph.constant(name, places.ravel())], axis=1)
            return graph.node('Reshape', [rows, graph.constant(f'{name}_shape', np.array(
                [case.B, longest, case.E]))])

        def build(graph):
            xs, ys = inputs_of(graph)
            queries = rows_of(graph, 'query_places', xs, counted)
            keys = queries
            if not case.is_self_attention() or counted is not case.lens:
                keys = rows_of(graph, 'key_places', ys, case.lens)
            qkv = [project(graph, name, i) for i, name in enumerate((queries, keys, keys))]
            every = (counted, case.lens, case.lens)
            if is_apart:
                parts = [
                    graph.nodes_of('Split', [rows, graph.constant(f'lens{i}', np.array(lens))],
                                   case.B, axis=1)
                    for i, (rows, lens) in enumerate(zip(qkv, every))
                ]
                heads = graph.node('Concat', [
                    graph.node('MultiHeadAttention', list(one), MICROSOFT, num_heads=case.H)
                    for one in zip(*parts)], axis=1)
            else:
                qkv = [
                    padded(graph, f'padded{i}', rows, lens, longest)
                    for i, (rows, lens, longest) in enumerate(
                        zip(qkv, every, (case.Q, case.K, case.K)))
                ]
                heads = graph.node('MultiHeadAttention', [*qkv, '', graph.input('lens', lens)],
                                   MICROSOFT, num_heads=case.H)
                heads = rows_of(graph, 'head_places', heads, counted)
            padded(graph, 'output', project(graph, heads, 3), counted, case.Q)
        return build

    found = {
        'MatMul, MultiHeadAttention': Way(multi_head, threads),
        'MatMul, Attention-23': Way(standard, threads),
    }
    if case.is_self_attention():
        found['Attention with its projections'] = Way(merged, threads)
    if case.lens:
        found['padding left out of projections'] = Way(padding_left_out(False), threads)
        found['padding left out'] = Way(padding_left_out(True), threads)
    return found


def projection_ways(case, threads):
    x, w = case.layer_inputs()[0].reshape(-1, case.E), case.weights()[0]

    def matmul(graph):
        graph.node('MatMul', [graph.input('x', x), graph.constant('w', w.T)])

    def gemm(graph):
        graph.node('Gemm', [graph.input('x', x), graph.constant('w', w)], transB=1)

    return {'MatMul': Way(matmul, threads), 'Gemm': Way(gemm, threads)}


def ways(case, threads):
    of_kind = {'projection': projection_ways, 'attention': attention_ways, 'layer': layer_ways}
    if case.kind not in of_kind or (case.kind == 'layer' and case.scalar == 'double'):
        return {}  # it does not train
    return {name: (way, way.output) for name, way in of_kind[case.kind](case, threads).items()}


if __name__ == '__main__':
    protocol.run('ONNX Runtime', f'{onnxruntime.__version__}, onnx {onnx.__version__}', ways)
