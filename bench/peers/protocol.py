# SPDX-License-Identifier: MIT
"""What the peers in Python share: the cases and their inputs, and the way of measuring.

A peer is a name and a function ways(case, threads) -> {name of a way: (call, output)}: call()
runs it once, output() gives what it computed, as arrays in the library's order; a peer that cannot
train has no way of a case that does. Every way is compared with the library's output first; the
fastest is measured, as the library is: warm, the peak before each repetition, in the same process.

A process measures one number of threads, so that the environment can pin every library's threads
(OMP_NUM_THREADS and the like) to it.
"""
import argparse
import ctypes
import functools
import json
import pathlib
import re
import statistics
import sys
import time
import types

import numpy as np

COLUMNS = ('work group scalar implementation threads milliseconds flops unmasked bytes peak '
           'scratch error').split()
STREAMS = 'queries keys values w_q w_k w_v w_o lens allowed bias grad_output'.split()

# ---- Inputs: inputs.hpp in Python ---------------------------------------------------------------


def bits(stream, count):
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    x += np.uint32((STREAMS.index(stream) + 1) * 0x85EBCA6B & 0xFFFFFFFF)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def numbers(stream, shape, scale=1.0):
    """Exact in float32, so the same in float64."""
    steps = (bits(stream, int(np.prod(shape))) >> np.uint32(8)).astype(np.int32) - (1 << 23)
    return (steps.astype(np.float32) * np.float32(scale * 2.0**-22)).reshape(shape)


class Case(types.SimpleNamespace):
    """A line of cases.json, with its tensors. scalar: 'float' or 'double'."""

    @property
    def dtype(self):
        return np.float32 if self.scalar == 'float' else np.float64

    def numbers(self, stream, shape, scale=1.0):
        return numbers(stream, shape, scale).astype(self.dtype, copy=False)

    def bytes(self):
        """What a decoding step reads; 0 where arithmetic is the bound."""
        return self.elements * np.dtype(self.dtype).itemsize

    @functools.cached_property
    def qkv(self):
        """[B, H, Q, D] and twice [B, G, K, D]; one copy, so what is read is what is measured."""
        return (self.numbers('queries', (self.B, self.H, self.Q, self.D)),
                self.numbers('keys', (self.B, self.G, self.K, self.D)),
                self.numbers('values', (self.B, self.G, self.K, self.D)))

    def is_self_attention(self):
        return self.Q == self.K

    def layer_inputs(self):
        """Inputs of queries, and of keys and values."""
        x = self.numbers('queries', (self.B, self.Q, self.E))
        return x, x if self.is_self_attention() else self.numbers('keys',
                                                                  (self.B, self.K, self.E))

    def weights(self):
        """W_q, W_k, W_v, W_o, each [out, in]."""
        return [self.numbers(name, (self.E, self.E), 2.0**-5)
                for name in ('w_q', 'w_k', 'w_v', 'w_o')]

    def grad_output(self):
        """Of the loss: [B, Q, E] for a layer, [B, H, Q, D] for attention."""
        return self.numbers('grad_output', (self.B, self.Q, self.E) if self.kind == 'training' else
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
        """[1, H, Q, K]"""
        if self.masking == 'score_bias':
            return self.numbers('bias', (1, self.H, self.Q, self.K))
        distance = np.abs(np.arange(self.Q)[:, None] - np.arange(self.K)[None, :])
        slopes = 0.5**np.arange(1, self.H + 1)
        return (-slopes[:, None, None] * distance).astype(self.dtype)[None]

    def additive(self):
        """What is added to the scores, -inf where a key is hidden; None if nothing is."""
        if self.adds_bias():
            return self.bias()
        if self.hides_pairs():
            return np.where(self.may_see(), self.dtype(0), self.dtype(-np.inf))[:, None]
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
        if threads > 1:
            time.sleep(0.1)  # until the peer's threads have stopped spinning
        if case.elements == 0:
            return self.library.bench_peak_gflops(threads, case.scalar == 'float')
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
    """How many calls take that long."""
    once = seconds(call, 1)
    if once < at_least:
        once = min(once, *(seconds(call, 1) for _ in range(4)))
    return max(1, int(at_least / once)), once


def median_and_range(times):
    quartiles = np.quantile(times, [0.25, 0.75])
    return f'{statistics.median(times):.4g} [{quartiles[0]:.4g}..{quartiles[1]:.4g}] ms'


def first_line(problem):
    return (str(problem).strip() or repr(problem)).splitlines()[0][:80]


def tried(case, ways, options):
    """[(seconds, name, call, calls a repetition, error)] of those that are near the fastest, which
    is the first."""
    expected = np.load(options.cases / f'{case.output}_{case.scalar}.npy')
    found = []
    for way, (call, output) in ways.items():
        try:
            call()
            error = worst_error(case, output(), expected)
            if not error < 1e3 * np.finfo(case.dtype).eps:
                print(f'  {way}: differs by {error:.2g}, left out')
                continue
            call()
            count, took = calls_for(call, options.min_time)
        except Exception as problem:  # a way that this version does not have
            print(f'  {way}: {first_line(problem)}')
            continue
        print(f'  {way}: {1e3 * took:.4g} ms')
        found.append((took, way, call, count, error))
    return nearest(found)


def nearest(found):
    """Those near the fastest, after a second look at them."""
    shortest = min((one[0] for one in found), default=0)
    near = [one for one in found if one[0] < 1.2 * shortest]
    if len(near) > 1:
        near = [(min(seconds(one[2], one[3]) for _ in range(2)), *one[1:]) for one in near]
    return sorted(near, key=lambda one: one[0])


def choose(case, threads, ways, further, options):
    """The fastest of ways(), and of further() of it: as tried() gives it, or None. What was near it
    once is all that is tried the next time."""
    known = {}
    if options.known and options.known.exists():
        known = json.loads(options.known.read_text())
    key = f'{case.name}, {case.scalar}, {threads}'
    all_ways = ways(case, threads)
    if key not in known:
        found = tried(case, all_ways, options)
        if found:
            found = nearest(found + tried(case, further(case, found[0][1]), options))
    else:
        for name in known[key]:
            if name not in all_ways:
                all_ways.update(further(case, name.partition(', ')[2]))
        found = tried(case, {name: all_ways[name] for name in known[key]}, options)
    if options.known:
        known.setdefault(key, [one[1] for one in found])
        options.known.write_text(json.dumps(known))
    return found[0] if found else None


def measure(case, threads, name, chosen, peak, options):
    """The samples of the way that was chosen."""
    _, way, call, count, error = chosen
    samples = []
    for _ in range(options.repetitions):
        reached = peak.measure(case, threads)
        call()
        samples.append(
            dict(work=case.name, group=case.group, scalar=case.scalar, implementation=name,
                 threads=threads, milliseconds=1e3 * seconds(call, count), flops=case.flops,
                 unmasked=case.unmasked, bytes=case.bytes(), peak=reached, scratch=-1,
                 error=error))
    times = [s['milliseconds'] for s in samples]
    best_peak = max(s['peak'] for s in samples)
    rate = 1e-6 * (case.bytes() or case.flops) / statistics.median(times)
    print(f'{case.name}, {case.scalar}, {threads} thread(s), {name}, {way}: '
          f'{median_and_range(times)}, {rate:.3g} of {best_peak:.3g} = {rate / best_peak:.3f}, '
          f'differs by {error:.2g}', flush=True)
    return samples


def run(name, versions, ways, further=lambda case, fastest: {}):
    """Measures all cases; the command line says where they and the peak are, and where to write.
    further(case, name of the fastest way): more ways to try."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cases', type=pathlib.Path, required=True, help='what bench_cases wrote')
    parser.add_argument('--peak', type=pathlib.Path, required=True, help='libbench_peak.so')
    parser.add_argument('--tsv', type=pathlib.Path, required=True)
    parser.add_argument('--known', type=pathlib.Path, help='which ways to try, kept between runs')
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--scalars', default='float,double')
    parser.add_argument('--rows', default='', help='cases whose names match this expression')
    parser.add_argument('--repetitions', type=int, default=7)
    parser.add_argument('--min-time', type=float, default=0.05, help='seconds a repetition')
    options = parser.parse_args()

    peak = Peak(options.peak)
    samples = []
    for scalar in options.scalars.split(','):
        for line in json.loads((options.cases / 'cases.json').read_text()):
            case = Case(scalar=scalar, **line)
            if not re.search(options.rows, case.name):
                continue
            chosen = choose(case, options.threads, ways, further, options)
            if chosen:
                samples += measure(case, options.threads, name, chosen, peak, options)
    with open(options.tsv, 'w') as file:
        print(f'# {name} {versions}', file=file)
        print(*COLUMNS, sep='\t', file=file)
        for sample in samples:
            print(*(sample[column] for column in COLUMNS), sep='\t', file=file)
    sys.stdout.flush()
