# SPDX-License-Identifier: MIT
"""Sentences a second of a sentence encoder of sentence-transformers (MiniLM), words cut into tokens
included: the library's by sentences_bench, and
  PyTorch        transformers' BertModel, the mean of its tokens, made 1 long: eager, with SDPA, compiled
  by hand        PyTorch's functions and weights that oneDNN packed beforehand, padding left out of all, or
                 of all but the attention: what nobody runs, and the fastest that PyTorch has
  ONNX Runtime   the same model exported, and with the operators that its own optimizer fuses
  tokenizers     Hugging Face's, which cuts words for all of them
All are given the same sentences: as they come, sorted by their lengths, or of one length; each way is
given the size of batches that is its fastest. Padded tensors are there before anything is timed. Every
way is compared with the library's vectors first. In turns: each repetition measures everybody once.

  sentences.py measure --program sentences_bench --model MODEL --work DIR --known FILE --threads 1
                       --tsv FILE
  sentences.py table FILE...      Markdown, of all files
"""
import argparse
import collections
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SIZES = (1, 8, 16, 32, 64, 128)  # of a batch
COLUMNS = 'sentences count threads who batch milliseconds'.split()
OURS, CUT = 'Eigenheads', 'tokenizers'


# ---- Sentences ----------------------------------------------------------------------------------


class Case:
    """Sentences in an order: their tokens, and the library's vectors."""

    def __init__(self, name, number, texts, ids, vectors, is_sorted=False):
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i])) if is_sorted else range(len(ids))
        self.name = name + (' sorted by length' if is_sorted else '')
        self.number, self.texts = number, [texts[i] for i in order]
        self.ids, self.vectors = [ids[i] for i in order], vectors[list(order)]

    def batches(self, size):
        return [self.ids[i:i + size] for i in range(0, len(self.ids), size)]


def cases_of(directory, tokenizer):
    import numpy as np
    for number, name in enumerate((directory / 'names.txt').read_text().splitlines()):
        texts = (directory / f'{number}.txt').read_text(encoding='utf-8').splitlines()
        ids = [one.ids for one in tokenizer.encode_batch(texts)]
        vectors = np.load(directory / f'{number}.npy')
        yield Case(name, number, texts, ids, vectors)
        if len({len(one) for one in ids}) > 1:
            yield Case(name, number, texts, ids, vectors, is_sorted=True)


def padded(batch):
    """[B, L] of ids, and of what counts; None where all does."""
    import numpy as np
    ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
    for row, one in zip(ids, batch):
        row[:len(one)] = one
    counts = np.arange(ids.shape[1]) < np.array([len(one) for one in batch])[:, None]
    return ids, None if counts.all() else counts.astype(np.int64)


# ---- Ways: name -> (batch -> arguments, function of them -> vectors) ------------------------------


def pytorch_ways(folder):
    import torch
    import transformers
    from torch.nn import functional as F

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tensor = lambda x: None if x is None else torch.from_numpy(x)

    class Embedder(torch.nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.model = transformers.AutoModel.from_pretrained(
                folder, attn_implementation=attention, add_pooling_layer=False).eval()

        def forward(self, ids, counts=None):
            x = self.model(input_ids=ids, attention_mask=counts).last_hidden_state
            if counts is None:
                return F.normalize(x.mean(1), dim=1)
            counts = counts.unsqueeze(-1).to(x.dtype)
            return F.normalize((x * counts).sum(1) / counts.sum(1).clamp(min=1e-9), dim=1)

    def arguments(batch):
        return tuple(map(tensor, padded(batch)))

    # Weights are the compiled graph's constants, which it may pack.
    torch._inductor.config.freezing = True
    sdpa = Embedder('sdpa')
    ways = {'PyTorch, eager': (arguments, Embedder('eager')),
            'PyTorch, SDPA': (arguments, sdpa),
            'PyTorch, compiled': (arguments, torch.compile(Embedder('sdpa'), dynamic=True))}
    return ways | ways_by_hand(sdpa.model), Embedder('eager')


def ways_by_hand(model):
    import torch
    from torch.nn import functional as F

    import encoder_pytorch

    class Weights:
        """What encoder_pytorch asks a case for."""
        E, H = model.config.hidden_size, model.config.num_attention_heads
        layers, eps = model.config.num_hidden_layers, model.config.layer_norm_eps

        def layer(self, number):
            state = {name: value.numpy() for name, value in
                     model.encoder.layer[number].state_dict().items()}
            theirs = {'self_attention.W_q': 'attention.self.query',
                      'self_attention.W_k': 'attention.self.key',
                      'self_attention.W_v': 'attention.self.value',
                      'self_attention.W_o': 'attention.output.dense',
                      'norm1': 'attention.output.LayerNorm', 'norm2': 'output.LayerNorm',
                      'feed_forward.up': 'intermediate.dense', 'feed_forward.down': 'output.dense'}
            return {f'{ours}.{part}': state[f'{name}.{part}']
                    for ours, name in theirs.items() for part in ('weight', 'bias')}

    each, scattered = (encoder_pytorch.Layers(Weights(), encoder_pytorch.PackedLinear, attend)
                       for attend in (encoder_pytorch.attend_each,
                                      encoder_pytorch.attend_scattered))

    def rows(batch):
        lens = torch.tensor([len(one) for one in batch])
        return (torch.tensor([i for one in batch for i in one]),
                torch.cat([torch.arange(n) for n in lens]), lens)

    def vectors(layers, ids, places, lens, *arguments):
        x = layers(model.embeddings(ids[None], position_ids=places[None])[0], *arguments)
        return F.normalize(torch.segment_reduce(x, 'mean', lengths=lens, axis=0), dim=1)

    def of_each(batch):
        return (each, *rows(batch), [len(one) for one in batch])

    def of_scattered(batch):
        ids, counts = padded(batch)
        counts = torch.from_numpy(counts if counts is not None else ids * 0 + 1).bool()
        mask = None if counts.all() else counts[:, None, None]
        return (scattered, *rows(batch), mask, counts.flatten().nonzero().squeeze(1),
                tuple(counts.shape))

    return {'PyTorch by hand, sentence by sentence': (of_each, vectors),
            'PyTorch by hand, attention padded': (of_scattered, vectors)}


def onnx_ways(embedder, threads, directory):
    import onnxruntime
    import torch
    from onnxruntime.transformers import optimizer

    config = embedder.model.config

    def export(path, has_padding):
        ids = torch.ones(2, 7, dtype=torch.int64)
        counts = torch.ones_like(ids)
        counts[1, 5:] = 0
        names = ['ids', 'counts'] if has_padding else ['ids']
        torch.onnx.export(embedder, (ids, counts) if has_padding else (ids,), path, dynamo=False,
                          input_names=names, output_names=['vectors'], opset_version=17,
                          dynamic_axes={name: {0: 'B', 1: 'L'} for name in names})

    def fuse(path, fused):
        model = optimizer.optimize_model(str(path), 'bert', num_heads=config.num_attention_heads,
                                         hidden_size=config.hidden_size, opt_level=0)
        print(f'  {fused.name}: ' + ', '.join(
            f'{count} {name}' for name, count in model.get_fused_operator_statistics().items()
            if count))
        model.save_model_to_file(str(fused))

    def session(path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def way(kind, without_padding):
        """without_padding: whether there is a graph of its own for batches that have none."""
        sessions = {}
        for has_padding in (True, False) if without_padding else (True,):
            stem = 'padded' if has_padding else 'whole'
            path = directory / f'{stem}-{kind}.onnx'
            if not path.exists():
                if kind == 'exported':
                    export(path, has_padding)
                else:
                    fuse(directory / f'{stem}-exported.onnx', path)
            sessions[has_padding] = session(path)

        def vectors(ids, counts):
            if counts is None and without_padding:
                return sessions[False].run(None, {'ids': ids})[0]
            return sessions[True].run(
                None, {'ids': ids, 'counts': ids * 0 + 1 if counts is None else counts})[0]

        return padded, vectors

    # The optimizer knows the attention by the mask that it has.
    return {'ONNX Runtime, exported': way('exported', True),
            'ONNX Runtime, fused': way('fused', False)}


# ---- Measuring ----------------------------------------------------------------------------------


def call_of(case, way, size):
    """Gives the vectors of each batch."""
    arguments, function = way
    batches = [arguments(batch) for batch in case.batches(size)]
    return lambda: [function(*batch) for batch in batches]


def best_size(case, name, way, protocol):
    """0 where it does not run, or gives other vectors."""
    import numpy as np
    taken = {}
    for size in SIZES:
        if size > len(case.ids):
            break
        try:
            call = call_of(case, way, size)
            error = np.abs(np.concatenate(list(map(np.asarray, call()))) - case.vectors).max()
            if not error < 1e-5:
                print(f'  {case.name}: {name}, batches of {size}: differs by {error:.2g}')
                return 0
            taken[size] = protocol.seconds(call, 1)
            if taken[size] < 1.1 * min(taken.values()):
                taken[size] = min(taken[size], protocol.seconds(call, 1))
        except Exception as problem:  # a way that this version does not have
            print(f'  {case.name}: {name}: {protocol.first_line(problem)}', flush=True)
            return 0
    print(f'  {case.name}: {name}: ' + ', '.join(
        f'{1e3 * seconds:.4g} ms in batches of {size}' for size, seconds in taken.items()),
          flush=True)
    return min(taken, key=taken.get)


def measure(options):
    os.environ.setdefault('TOKENIZERS_PARALLELISM', 'true' if options.threads > 1 else 'false')
    os.environ.setdefault('RAYON_NUM_THREADS', str(options.threads))
    subprocess.run([options.program, options.model, f'--export={options.work}'], check=True)
    import torch
    import tokenizers

    import protocol

    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    tokenizer = tokenizers.Tokenizer.from_file(str(options.model / 'tokenizer.json'))
    tokenizer.no_padding()
    cases = [case for case in cases_of(options.work, tokenizer)
             if not options.rows or case.name == options.rows]
    ours = subprocess.Popen([options.program, options.model, f'--threads={options.threads}',
                             f'--benchmark_min_time={options.min_time}'], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def milliseconds_of_ours(what, case):
        print(what, case.number, file=ours.stdin, flush=True)
        return float(ours.stdout.readline())

    with torch.inference_mode():
        ways, embedder = pytorch_ways(options.model)
        ways |= onnx_ways(embedder, options.threads, options.work)
        known = json.loads(options.known.read_text()) if options.known.exists() else {}
        for case in cases:
            for name, way in ways.items():
                if f'{case.name}, {name}' not in known:
                    known[f'{case.name}, {name}'] = best_size(case, name, way, protocol)
                    options.known.write_text(json.dumps(known, indent=1))
        warm = set()

        def everybody(case):
            """(who, size of batches, milliseconds), once each."""
            for what, who in (('vectors', OURS), ('texts', f'{OURS} from texts'),
                              ('tokens', f'{OURS} tokens')):
                yield who, 0, milliseconds_of_ours(what, case)
            cut = lambda: tokenizer.encode_batch_fast(case.texts)
            cut()
            yield CUT, 0, 1e3 * protocol.seconds(cut, 10)
            for name, way in ways.items():
                if size := known[f'{case.name}, {name}']:
                    call = call_of(case, way, size)
                    if (case.name, name) not in warm:
                        call()
                    warm.add((case.name, name))
                    yield name, size, 1e3 * protocol.seconds(call, 1)
                    time.sleep(0.1)  # until its threads have stopped spinning

        with open(options.tsv, 'a') as file:
            for _ in range(options.repetitions):
                for case in cases:
                    for who, batch, milliseconds in everybody(case):
                        print(case.name, len(case.ids), options.threads, who, batch, milliseconds,
                              sep='\t', file=file, flush=True)
    ours.stdin.close()
    ours.wait()


# ---- The table ----------------------------------------------------------------------------------


def table(files):
    samples, sizes = collections.defaultdict(list), {}
    for path in files:
        with open(path) as file:
            for row in csv.DictReader(file, COLUMNS, delimiter='\t'):
                case = row['sentences'], int(row['threads'])
                samples[case, row['who']].append(float(row['milliseconds']) / int(row['count']))
                sizes[case, row['who']] = row['batch']
    each = {key: statistics.median(times) for key, times in samples.items()}  # ms a sentence
    head = ['sentences', 'threads', 'who', 'batches of', 'sentences/s', 'Eigenheads is',
            'from texts', 'Eigenheads is']
    print('|', ' | '.join(head), '|\n|' + ' --- |' * len(head))
    for (case, who), time_of_one in each.items():
        if who == CUT or (who.startswith(OURS) and who != OURS):
            continue
        from_texts = each[case, f'{OURS} from texts'] if who == OURS else \
            time_of_one + each[case, CUT]
        cells = [case[0], str(case[1]), who, sizes[case, who] if who != OURS else '',
                 f'{1e3 / time_of_one:.0f}', f'{time_of_one / each[case, OURS]:.2f}x',
                 f'{1e3 / from_texts:.0f}',
                 f'{from_texts / each[case, f"{OURS} from texts"]:.2f}x']
        if who == OURS:
            cells[5] = cells[7] = ''
        print('|', ' | '.join(cells), '|')
    print()
    for case in dict.fromkeys(case for case, _ in each):
        print(f'{case[0]}, {case[1]} thread(s): tokenizers cuts '
              f'{1e3 / each[case, CUT]:.0f} sentences/s, Eigenheads '
              f'{1e3 / each[case, f"{OURS} tokens"]:.0f}')


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest='command', required=True)
    of_table = commands.add_parser('table')
    of_table.add_argument('files', nargs='+')
    of_measure = commands.add_parser('measure')
    of_measure.add_argument('--program', required=True, help='sentences_bench')
    of_measure.add_argument('--model', type=pathlib.Path, required=True, help='its folder')
    of_measure.add_argument('--work', type=pathlib.Path, required=True,
                            help='for texts, and for graphs, which are kept between runs')
    of_measure.add_argument('--known', type=pathlib.Path, required=True,
                            help='the best sizes of batches, kept between runs')
    of_measure.add_argument('--tsv', required=True, help='is added to')
    of_measure.add_argument('--threads', type=int, required=True)
    of_measure.add_argument('--rows', default='', help='the one case of this name')
    of_measure.add_argument('--repetitions', type=int, default=7)
    of_measure.add_argument('--min-time', type=float, default=0.05, help='seconds a repetition')
    options = parser.parse_args()
    table(options.files) if options.command == 'table' else measure(options)
    sys.stdout.flush()


if __name__ == '__main__':
    main()
