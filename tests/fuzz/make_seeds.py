# SPDX-License-Identifier: MIT
# Writes seeds: for the fuzz targets that read files, from the small files that other tests hold; for
# those that take numbers from the bytes, any bytes.
#   python3 tests/fuzz/make_seeds.py FOLDER     FOLDER/TARGET/NAME
# What fuzzing makes of them, minimised, is tests/fuzz/corpus.
import json
import pathlib
import random
import struct
import sys

golden = pathlib.Path(__file__).parent.parent / "golden"
folder = pathlib.Path(sys.argv[1])


def write(target, name, data):
    path = folder / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def npy(header, data, version=1):
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


for descr, size in [("<f4", 4), ("<f8", 8), ("<i4", 4), ("<i8", 8), ("|b1", 1)]:
    for shape in ["()", "(3,)", "(2, 1, 3)", "(0, 2, 2)", "(2, 2)"]:
        count = 1
        for n in eval(shape):
            count *= n
        for order in ["True", "False"]:
            header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
            write("npy", f"{descr[1:]}{shape}{order}", npy(header, b"\1" * (count * size)))
write("npy", "version2", npy("{'descr':'<f4','fortran_order':False,'shape':(2L,)}", b"\1" * 8, 2))


def safetensors(header, data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


write("safetensors", "empty", safetensors({}, b""))
write("safetensors", "metadata", safetensors({"__metadata__": {"a": "b"}}, b""))
for dtype, size in [("F32", 4), ("BF16", 2), ("F16", 2), ("BOOL", 1), ("I64", 8), ("C64", 8), ("F8_E4M3", 1)]:
    two = {"a": entry(dtype, [2], 0, 2 * size), "b": entry(dtype, [1, 0], 2 * size, 2 * size)}
    write("safetensors", dtype, safetensors(two, b"\1" * (2 * size)))
write("safetensors", "half_bytes", safetensors({"a": entry("F4", [4], 0, 2)}, b"\1\2"))

shards = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors", "d": "2.safetensors"}
write("safetensors_index", "all", json.dumps({"metadata": {"total_size": 24}, "weight_map": shards}).encode())
write("safetensors_index", "some", json.dumps({"weight_map": {"c": "2.safetensors"}}).encode())
write("safetensors_index", "outside", json.dumps({"weight_map": {"c": "../2.safetensors"}}).encode())

for path in golden.glob("**/config.json"):
    write("config", "_".join(path.relative_to(golden).parts[:-1]), path.read_bytes())

texts = ["Hello, world! 12", "  ünïcödé \u6f22\u5b57 it's", "\U0001f642\u200d\r\n\t<|x|> [MASK] ###"]
for path in (golden / "tokenizers").glob("*.json"):
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    # As few tokens as make words: the file is what fuzzing is about, and shall be short.
    merges = document["model"].get("merges", [])[:12]
    halves = [m.split(" ") if isinstance(m, str) else m for m in merges]
    kept = {"".join(h) for h in halves} | {part for h in halves for part in h}
    small = {t: i for t, i in vocabulary.items() if t in kept or len(t) == 1 or t.startswith(("[", "<"))}
    if "merges" in document["model"]:
        document["model"]["merges"] = merges
        small = {t: i for t, i in small.items() if t in kept or t.startswith("<") or t in "HeloĠ'!12"}
    else:
        small = dict(list(small.items())[:60])
    document["model"]["vocab"] = small
    for number, text in enumerate(texts):
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        write("tokenizer", f"{path.stem}_{number}", data + b"\0" + text.encode())

bytes_of = random.Random(16)
for target in ["attention", "kv_cache", "masks", "packed", "plot", "safetensors_header"]:
    for number in range(40):
        write(target, str(number), bytes_of.randbytes(16 + 12 * number))
