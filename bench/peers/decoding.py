# SPDX-License-Identifier: MIT
"""What the peers share that measure decoding: the cases that decoding_bench has written, and the way of
measuring. A peer is two functions that give ways by name.
  model_ways(case, threads): a way has read_prompt(), step(i) for the tokens 1, 2, ... after the first
    that the prompt gives, and logits(), [written, B, vocabulary], of the last run
  step_ways(case, threads): (call, output): call() takes the step of the last token of K, over and over;
    output() gives what it computed, [B, E]
Every way is compared with the library's output first, and the fastest is measured: warm, what reading
reaches before each repetition, in the same process.
"""
import argparse
import ctypes
import json
import pathlib
import re
import statistics
import sys
import time
import types

import numpy as np

import protocol


class Case(types.SimpleNamespace):
    """A line of decoding.json."""

    def load(self, what):
        return np.load(self.directory / f'{self.file}{what}.npy')

    def linear(self, name):
        """The weight, as [out, in], and the bias."""
        bias = self.load(f'.{name}.bias')
        return self.load(f'.{name}.weight').reshape(len(bias), -1), bias


class Model(Case):
    name_of_linears = ('self_attention.W_q', 'self_attention.W_k', 'self_attention.W_v',
                       'self_attention.W_o', 'feed_forward.up', 'feed_forward.down')

    @property
    def D(self):
        return self.E // self.H

    @property
    def capacity(self):
        return self.prompt + self.written

    def layer(self, number):
        """{name: array} of a layer's parameters, those of W_q, W_k and W_v one below the other, too."""
        found = {}
        for name in self.name_of_linears:
            found[f'{name}.weight'], found[f'{name}.bias'] = self.linear(f'layers.{number}.{name}')
        for name in ('norm1', 'norm2'):
            for part in ('weight', 'bias'):
                found[f'{name}.{part}'] = self.load(f'.layers.{number}.{name}.{part}')
        for part in ('weight', 'bias'):
            found[f'qkv.{part}'] = np.concatenate(
                [found[f'self_attention.W_{x}.{part}'] for x in 'qkv'])
        return found

    def norm(self):
        return [self.load(f'.norm.{part}') for part in ('weight', 'bias')]

    def embedding(self):
        return self.load('.embedding.weight').reshape(self.vocabulary, self.E)

    def prompt_ids(self):
        return self.load('_prompt').astype(np.int64).reshape(self.B, self.prompt)

    def angles(self):
        """[capacity, D / 2] of cosines and of sines: pairs are half a head apart."""
        frequencies = 10000.0**(-np.arange(0, self.D, 2) / self.D)
        angles = np.arange(self.capacity)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def expected(self):
        return self.load('_y').reshape(self.written, self.B, self.vocabulary)


class Step(Case):
    """What comes to the cache is protocol's numbers, the same for every head."""

    def x(self):
        return protocol.numbers('queries', (self.B, 1, self.E))

    def kept(self, stream):
        """[K, D], of which the last is the step's own."""
        return protocol.numbers(stream, (self.K, self.D))

    def expected(self):
        return self.load('_y').reshape(self.B, self.E)

    def tolerance(self):
        return 1e-4 if self.stored == 'float32' else 3e-2


def error_of(output, expected):
    return np.max(np.abs(output.reshape(expected.shape) - expected)) / np.max(np.abs(expected))


class Reading:
    """What reading so many bytes reaches, and multiply-adds."""

    def __init__(self, path):
        self.library = protocol.Peak(path).library
        self.memory = np.zeros(0, np.uint8)

    def gigabytes(self, size, threads):
        if threads > 1:
            time.sleep(0.1)  # until the peer's threads have stopped spinning
        size = min(int(size), 512 << 20)
        if self.memory.size < size:
            self.memory = np.ones(size, np.uint8)
        memory = (ctypes.c_void_p * 1)(self.memory.ctypes.data)
        return self.library.bench_read_gigabytes(memory, (ctypes.c_size_t * 1)(size),
                                                 ctypes.c_size_t(1), threads)

    def gigaflops(self, threads):
        return self.library.bench_peak_gflops(threads, True)


def run_model(case, way):
    """Seconds of the whole, and of the steps in it."""
    start = time.perf_counter()
    way.read_prompt()
    prompt = time.perf_counter()
    for i in range(1, case.written):
        way.step(i)
    end = time.perf_counter()
    return end - start, end - prompt


def tried(case, ways, run, output, tolerance):
    """[(seconds, name, way, error)], the fastest first."""
    found = []
    for name, way in ways.items():
        try:
            first = run(way)
            error = error_of(output(way), case.expected())
            taken = min(run(way) for _ in range(1 if first > 0.5 else 2))
        except Exception as exception:  # a way that this version does not have
            print(f'  {case.name}: {name}: {protocol.first_line(exception)}', flush=True)
            continue
        print(f'  {case.name}: {name}: {1e3 * taken:.4g} ms, differs by {error:.2g}', flush=True)
        if error < tolerance:
            found.append((taken, name, way, error))
    return sorted(found, key=lambda one: one[0])


def choose(case, ways, how, options):
    """(name, way, error) of the fastest. What was near it once is all that is tried the next time."""
    known = {}
    if options.known and options.known.exists():
        known = json.loads(options.known.read_text())
    key = f'{case.name}, {options.threads}'
    if key in known:
        ways = {name: way for name, way in ways.items() if name in known[key]}
    found = tried(case, ways, *how)
    if options.known:
        known.setdefault(key, [one[1] for one in found if one[0] < 1.2 * found[0][0]])
        options.known.write_text(json.dumps(known))
    return found[0][1:] if found else None


def write(file, name, peer, threads, milliseconds, flops, size, peak, error):
    print(name, 'decoding', 'float', peer, threads, milliseconds, flops, flops, size, peak, -1, error,
          sep='\t', file=file)


def measure_model(case, peer, chosen, reading, file, options):
    way, runs, error = chosen
    whole, steps, peaks = [], [], []
    for _ in range(options.repetitions):
        peaks.append((reading.gigaflops(options.threads),
                      reading.gigabytes(case.step_bytes, options.threads)))
        times = run_model(case, runs)
        whole.append(1e3 * times[0])
        steps.append(1e3 * times[1] / (case.written - 1))
        write(file, case.name, peer, options.threads, whole[-1], case.flops, 0, peaks[-1][0], error)
        write(file, case.step_name, peer, options.threads, steps[-1], case.step_flops,
              case.step_bytes, peaks[-1][1], error)
    tokens = 1e3 * case.B * case.written / statistics.median(whole)
    rate = 1e-6 * case.step_bytes / statistics.median(steps)
    best = max(peak[1] for peak in peaks)
    print(f'{case.name}, {options.threads} thread(s), {peer}, {way}: '
          f'{protocol.median_and_range(whole)}, {tokens:.4g} tokens/s, a step '
          f'{protocol.median_and_range(steps)}, {rate:.3g} of {best:.3g} GB/s = {rate / best:.3f}, '
          f'differs by {error:.2g}', flush=True)


def measure_step(case, peer, chosen, reading, file, options):
    way, (call, _), error = chosen
    count, _ = protocol.calls_for(call, options.min_time)
    times, peaks = [], []
    for _ in range(options.repetitions):
        peaks.append(reading.gigabytes(case.bytes, options.threads))
        call()
        times.append(1e3 * protocol.seconds(call, count))
        write(file, case.name, peer, options.threads, times[-1], case.flops, case.bytes, peaks[-1],
              error)
    rate, best = 1e-6 * case.bytes / statistics.median(times), max(peaks)
    print(f'{case.name}, {options.threads} thread(s), {peer}, {way}: '
          f'{protocol.median_and_range(times)}, {rate:.3g} of {best:.3g} GB/s = {rate / best:.3f}, '
          f'differs by {error:.2g}', flush=True)


def run(peer, versions, model_ways, step_ways):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cases', type=pathlib.Path, required=True,
                        help='what decoding_bench --export wrote')
    parser.add_argument('--peak', type=pathlib.Path, required=True, help='libbench_peak.so')
    parser.add_argument('--tsv', type=pathlib.Path, required=True)
    parser.add_argument('--known', type=pathlib.Path, help='which ways to try, kept between runs')
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--rows', default='', help='cases whose names match this expression')
    parser.add_argument('--repetitions', type=int, default=7)
    parser.add_argument('--min-time', type=float, default=0.05, help='seconds a repetition')
    options = parser.parse_args()

    reading = Reading(options.peak)
    lines = json.loads((options.cases / 'decoding.json').read_text())
    with open(options.tsv, 'w') as file:
        print(f'# {peer} {versions}', file=file)
        print(*protocol.COLUMNS, sep='\t', file=file)
        for line in lines['models']:
            case = Model(directory=options.cases, **line)
            if not re.search(options.rows, case.name):
                continue
            how = (lambda way: run_model(case, way)[0], lambda way: way.logits(), 1e-4)
            chosen = choose(case, model_ways(case, options.threads), how, options)
            if chosen:
                measure_model(case, peer, chosen, reading, file, options)
        for line in lines['steps']:
            case = Step(directory=options.cases, **line)
            if not re.search(options.rows, case.name):
                continue
            how = (lambda way: protocol.seconds(way[0], 1), lambda way: way[1](), case.tolerance())
            chosen = choose(case, step_ways(case, options.threads), how, options)
            if chosen:
                measure_step(case, peer, chosen, reading, file, options)
    sys.stdout.flush()
