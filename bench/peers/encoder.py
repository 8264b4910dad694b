# SPDX-License-Identifier: MIT
"""What the peers share that measure encoders: the cases that encoder_bench has written, and the way of
measuring. A peer is a name and a function ways(case, threads) -> {name of a way: (call, output)}:
call() runs all batches once, output() gives the rows that count, one below the other (of a training
case, those of the output and of the input's gradient). Every way is compared with the library's output
first, and the fastest is measured: warm, the peak before each repetition, in the same process.
"""
import argparse
import json
import pathlib
import re
import statistics
import sys
import types

import numpy as np

import protocol

PARAMETERS = [f'self_attention.{name}.{part}' for name in ('W_q', 'W_k', 'W_v', 'W_o')
              for part in ('weight', 'bias')]
PARAMETERS += [f'{norm}.{part}' for norm in ('norm1', 'norm2') for part in ('weight', 'bias')]
PARAMETERS += [f'feed_forward.{name}.{part}' for name in ('up', 'down')
               for part in ('weight', 'bias')]


FLOAT = types.SimpleNamespace(elements=0, scalar='float')  # whose peak is that of arithmetic


class Case(types.SimpleNamespace):
    """A line of encoders.json. batches: the lengths of each batch's sentences."""

    def load(self, what):
        return np.load(self.directory / f'{self.file}{what}.npy')

    def rows(self, what):
        """[N, E] of each batch."""
        ends = np.cumsum([sum(lens) for lens in self.batches])
        return np.split(self.load(what).reshape(-1, self.E), ends[:-1])

    def layer(self, number):
        """{name: array} of a layer's parameters, matrices as [out, in]."""
        sizes = {'up.weight': (self.hidden, self.E), 'down.weight': (self.E, self.hidden)}
        found = {}
        for name in PARAMETERS:
            values = self.load(f'.{number}.{name}')
            if name.startswith('self_attention') and name.endswith('weight'):
                values = values.reshape(self.E, self.E)
            found[name] = values.reshape(sizes.get(name.removeprefix('feed_forward.'),
                                                   values.shape))
        return found

    def padded(self):
        """[B, L, E] of each batch, zeros where there is padding, and [B, L] of bool: what counts."""
        for rows, lens in zip(self.rows('_x'), self.batches):
            counts = np.arange(max(lens)) < np.array(lens)[:, None]
            x = np.zeros((*counts.shape, self.E), np.float32)
            x[counts] = rows
            yield x, counts

    def expected(self):
        parts = ('_y', '_grad_x') if self.is_training else ('_y',)
        return [self.load(part) for part in parts]


def error_of(outputs, expected):
    worst = 0
    for output, right in zip(outputs, expected, strict=True):
        if output.size != right.size:
            return np.inf
        worst = max(worst, np.max(np.abs(output.ravel() - right)) / np.max(np.abs(right)))
    return worst


def choose(case, threads, ways, options):
    """(name, call, error) of the fastest way."""
    best = None
    for name, (call, output) in ways(case, threads).items():
        try:
            call()
            error = error_of(output(), case.expected())
            call()
            taken = min(protocol.seconds(call, 1) for _ in range(3))
        except Exception as exception:  # a way that this version does not have
            print(f'  {case.name}: {name}: {protocol.first_line(exception)}', flush=True)
            continue
        print(f'  {case.name}: {name}: {1e3 * taken:.4g} ms, differs by {error:.2g}', flush=True)
        if not error < 1e-4:
            continue
        if best is None or taken < best[0]:
            best = taken, name, call, error
    return best and best[1:]


def run(name, versions, ways):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cases', type=pathlib.Path, required=True,
                        help='what encoder_bench --export wrote')
    parser.add_argument('--peak', type=pathlib.Path, required=True, help='libbench_peak.so')
    parser.add_argument('--tsv', type=pathlib.Path, required=True)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--rows', default='', help='cases whose names match this expression')
    parser.add_argument('--repetitions', type=int, default=7)
    parser.add_argument('--min-time', type=float, default=0.05, help='seconds a repetition')
    options = parser.parse_args()

    peak = protocol.Peak(options.peak)
    with open(options.tsv, 'w') as file:
        print(f'# {name} {versions}', file=file)
        print(*protocol.COLUMNS, sep='\t', file=file)
        for line in json.loads((options.cases / 'encoders.json').read_text()):
            case = Case(directory=options.cases, **line)
            if not re.search(options.rows, case.name):
                continue
            chosen = choose(case, options.threads, ways, options)
            if not chosen:
                continue
            way, call, error = chosen
            count = max(1, int(options.min_time / protocol.seconds(call, 1)))
            times, peaks = [], []
            for _ in range(options.repetitions):
                peaks.append(peak.measure(FLOAT, options.threads))
                times.append(1e3 * protocol.seconds(call, count))
                print(case.name, 'sentence encoders', 'float', name, options.threads, times[-1],
                      case.flops, case.flops, 0, peaks[-1], -1, error, sep='\t', file=file)
            rate = 1e-6 * case.flops / statistics.median(times)
            print(f'{case.name}, {options.threads} thread(s), {name}, {way}: '
                  f'{protocol.median_and_range(times)}, {rate:.3g} of {max(peaks):.3g} = '
                  f'{rate / max(peaks):.3f}, differs by {error:.2g}', flush=True)
    sys.stdout.flush()
