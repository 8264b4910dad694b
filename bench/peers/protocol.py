# SPDX-License-Identifier: MIT
"""What the peers in Python share: the cases and their inputs, and the way of measuring.

A peer is a name and a function ways(case, threads) -> {name of a way: (call, output)}: call()
runs it once, output() gives what it computed, as arrays in the library's order; a peer that cannot
train has no way of a case that does. Every way is compared with the library's output first; the
fastest is measured, as the library is: warm, the peak before each repetition, in the same process.
"""
import argparse
import ctypes
import functools
import json
import pathlib
import statistics
import sys
import time
import types

import numpy as np

COLUMNS = ('work scalar implementation threads milliseconds flops unmasked bytes peak scratch '
           'error').split()
STREAMS = 'queries keys values w_q w_k w_v w_o lens allowed bias grad_output'.split()

# ---- Inputs: inputs.hpp in Python ---------------------------------------------------------------


def bits(stream, count):
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    x += np.uint32((STREAMS.index(stream) + 1) * 0x85EBCA6B & 0xFFFFFFFF)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def numbers(stream, shape, scale=1.0):
    steps = (bits(stream, int(np.prod(shape))) >> np.uint32(8)).astype(np.int32) - (1 << 23)
    return (steps.astype(np.float32) * np.float32(scale * 2.0**-22)).reshape(shape)


class Case(types.SimpleNamespace):
    """A line of cases.json, with its tensors."""

    @functools.cached_property
    def qkv(self):
        """[B, H, Q, D] and twice [B, G, K, D]; one copy, so what is read is what is measured."""
        return (numbers('queries', (self.B, self.H, self.Q, self.D)),
                numbers('keys', (self.B, self.G, self.K, self.D)),
                numbers('values', (self.B, self.G, self.K, self.D)))

    def is_self_attention(self):
        return self.Q == self.K

    def layer_inputs(self):
        """Inputs of queries, and of keys and values."""
        x = numbers('queries', (self.B, self.Q, self.E))
        return x, x if self.is_self_attention() else numbers('keys', (self.B, self.K, self.E))

    def weights(self):
        """W_q, W_k, W_v, W_o, each [out, in]."""
        return [numbers(name, (self.E, self.E), 2.0**-5) for name in ('w_q', 'w_k', 'w_v', 'w_o')]

    def grad_output(self):
        """Of the loss: [B, Q, E] for a layer, [B, H, Q, D] for attention."""
        return numbers('grad_output', (self.B, self.Q, self.E) if self.kind == 'training' else
                       (self.B, self.H, self.Q, self.D))

    def is_causal(self):
        return self.masking == 'causal'

    def hides_pairs(self):
        """Whether the mask differs from query to query, causality apart."""
        return self.masking in ('length_a_query', 'allowed')

    def adds_bias(self):
        return self.masking in ('score_bias', 'alibi')

    def may_see(self):
        """[B, Q, K] of bool."""
        seen = np.arange(self.K) < np.array(self.seen).reshape(self.B, self.Q, 1)
        if self.masking == 'allowed':
            seen &= (bits('allowed', self.Q * self.K) >> np.uint32(31) == 0).reshape(
                self.Q, self.K)
        return seen

    def bias(self):
        """[1, H, Q, K] of float32."""
        if self.masking == 'score_bias':
            return numbers('bias', (1, self.H, self.Q, self.K))
        distance = np.abs(np.arange(self.Q)[:, None] - np.arange(self.K)[None, :])
        slopes = 0.5**np.arange(1, self.H + 1)
        return (-slopes[:, None, None] * distance).astype(np.float32)[None]

    def additive(self):
        """What is added to the scores, -inf where a key is hidden; None if nothing is."""
        if self.adds_bias():
            return self.bias()
        if self.hides_pairs():
            return np.where(self.may_see(), np.float32(0), np.float32(-np.inf))[:, None]
        return None


# ---- Comparing and measuring --------------------------------------------------------------------


def relative_error(case, output, expected):
    output, expected = (x.ravel().astype(np.float64) for x in (output, expected))
    if case.masking == 'query_lens':
        output, expected = (x.reshape(case.B, -1) for x in (output, expected))
        count = np.array(case.lens)[:, None] * (output.shape[1] // case.Q)
        counted = np.arange(output.shape[1]) < count
        output, expected = output[counted], expected[counted]
    return np.max(np.abs(output - expected)) / np.max(np.abs(expected))


def worst_error(case, outputs, expected):
    """expected: all of them, one after another."""
    ends = np.cumsum([x.size for x in outputs])
    if ends[-1] != expected.size:
        return np.inf
    return max(
        relative_error(case, *pair) for pair in zip(outputs, np.split(expected, ends[:-1])))


class Peak:
    """What the machine can do, by the same loops as the library's benchmark."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.bench_peak_gflops.restype = ctypes.c_double
        self.library.bench_read_gigabytes.restype = ctypes.c_double
        self.library.bench_instruction_set.restype = ctypes.c_char_p

    def instruction_set(self):
        return self.library.bench_instruction_set().decode()

    def measure(self, case, threads):
        time.sleep(0.1)  # until the peer's threads have stopped spinning
        if case.elements == 0:
            return self.library.bench_peak_gflops(threads)
        pieces = case.qkv[1:]
        memory = (ctypes.c_void_p * 2)(*(x.ctypes.data for x in pieces))
        sizes = (ctypes.c_size_t * 2)(*(x.nbytes for x in pieces))
        return self.library.bench_read_gigabytes(memory, sizes, ctypes.c_size_t(2), threads)


def seconds(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def calls_for(call, at_least):
    """How many calls take that long; warms up."""
    call()
    once = min(seconds(call, 1) for _ in range(3))
    return max(1, int(at_least / once))


def median_and_range(times):
    return f'{statistics.median(times):.4g} [{min(times):.4g}..{max(times):.4g}] ms'


def measure(case, threads, name, ways, peak, options):
    """The samples of the fastest way."""
    expected = np.load(options.cases / case.output)
    best = None
    for way, (call, output) in ways.items():
        try:
            call()
            error = worst_error(case, output(), expected)
            if not error < 1e-4:
                print(f'  {way}: differs by {error:.2g}, left out')
                continue
            count = calls_for(call, options.min_time)
            took = min(seconds(call, count) for _ in range(2))
        except Exception as problem:  # a way that this version does not have
            print(f'  {way}: {str(problem).strip().splitlines()[0][:80]}')
            continue
        print(f'  {way}: {1e3 * took:.4g} ms')
        if best is None or took < best[0]:
            best = took, way, call, count, error
    if best is None:
        return []
    _, way, call, count, error = best
    samples = []
    for _ in range(options.repetitions):
        reached = peak.measure(case, threads)
        call()
        samples.append(
            dict(work=case.name, scalar='float', implementation=name, threads=threads,
                 milliseconds=1e3 * seconds(call, count), flops=case.flops,
                 unmasked=case.unmasked, bytes=4 * case.elements, peak=reached, scratch=-1,
                 error=error))
    times = [s['milliseconds'] for s in samples]
    best_peak = max(s['peak'] for s in samples)
    rate = 1e-6 * (4 * case.elements or case.flops) / statistics.median(times)
    print(f'{case.name}, {threads} thread(s), {name}, {way}: {median_and_range(times)}, '
          f'{rate:.3g} of {best_peak:.3g} = {rate / best_peak:.3f}, differs by {error:.2g}',
          flush=True)
    return samples


def run(name, versions, ways):
    """Measures all cases; the command line says where they and the peak are, and where to write."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cases', type=pathlib.Path, required=True, help='what bench_cases wrote')
    parser.add_argument('--peak', type=pathlib.Path, required=True, help='libbench_peak.so')
    parser.add_argument('--tsv', type=pathlib.Path, required=True)
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--filter', default='', help='cases whose names hold this')
    parser.add_argument('--repetitions', type=int, default=7)
    parser.add_argument('--min-time', type=float, default=0.05, help='seconds a repetition')
    options = parser.parse_args()

    peak = Peak(options.peak)
    samples = []
    for threads in options.threads:
        for line in json.loads((options.cases / 'cases.json').read_text()):
            case = Case(**line)
            if options.filter in case.name:
                samples += measure(case, threads, name, ways(case, threads), peak, options)
    with open(options.tsv, 'w') as file:
        print(f'# {name} {versions}', file=file)
        print(*COLUMNS, sep='\t', file=file)
        for sample in samples:
            print(*(sample[column] for column in COLUMNS), sep='\t', file=file)
    sys.stdout.flush()
