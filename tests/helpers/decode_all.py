"""Decodes the three files of every folder given, with the model in it: a process that never saw the
images. Writes the pixels, and how many threads it had."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec
from lic_train.codec.signal import to_uint8

for folder in map(Path, sys.argv[1:]):
    codec = load_codec(folder)
    streams = [Bitstream.from_bytes((folder / f"{i}.lic").read_bytes()) for i in range(3)]
    torch.save(
        torch.stack([to_uint8(codec.decompress(s)[0]) for s in streams]), folder / "decoded.pt"
    )
    (folder / "threads").write_text(str(torch.get_num_threads()))
