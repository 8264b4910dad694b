#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""reference.safetensors beside this file, as the format's own library writes it.

  pip install safetensors numpy ml_dtypes    (0.8.0, 2.4.6 and 0.6.0 wrote the committed file)
  make_safetensors.py [FILE]

Of every type one tensor: integers count down from their maximum, F32 and F64 hold (i * i - 7) / 4,
BOOL is i % 3 == 0, F16 and BF16 hold what is hard to widen. There is one metadata key, since the
library writes several in any order.
"""
import pathlib
import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent


def counting_down(dtype, *shape):
    count = int(np.prod(shape))
    return np.array([np.iinfo(dtype).max - i for i in range(count)], dtype).reshape(shape)


def quarters(dtype, *shape):
    i = np.arange(int(np.prod(shape)))
    return ((i * i - 7) / 4).astype(dtype).reshape(shape)


tensors = {
    "bool": (np.arange(7) % 3 == 0),
    "int8": counting_down(np.int8, 3),
    "uint8": counting_down(np.uint8, 2, 2),
    "int16": counting_down(np.int16, 3),
    "uint16": counting_down(np.uint16, 1, 3),
    "int32": counting_down(np.int32, 3),
    "uint32": counting_down(np.uint32, 2, 1),
    "int64": counting_down(np.int64, 3),
    "uint64": counting_down(np.uint64, 2),
    "float32": quarters(np.float32, 2, 3),
    "float64": quarters(np.float64, 2, 1, 3, 2),
    # largest, smallest normal, smallest, -0, 1/3, infinities, NaN
    "float16": np.array([65504, 2**-14, 2**-24, -0.0, 1 / 3, np.inf, -np.inf, np.nan], np.float16),
    "bfloat16": np.array(
        [2.0**127 * (2 - 2**-7), 2.0**-126, 2.0**-133, -0.0, 1 / 3, np.inf, -np.inf, np.nan],
        ml_dtypes.bfloat16,
    ),
    "step": np.array(12345678901234567890, np.uint64),
    "empty": np.zeros((3, 0, 2), np.float32),
    'W_q \u00e9 "\\/\n': quarters(np.float32, 1),
}
save_file(
    tensors,
    sys.argv[1] if len(sys.argv) > 1 else here / "reference.safetensors",
    metadata={"made by": "tests/io/make_safetensors.py\n\u20ac"},
)
