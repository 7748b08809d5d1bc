"""Alter and truncate a real file thousands of times; count what the decoder says.

    python scripts/checks/break_streams.py RUN FILE [--times 1000]

Every altered or truncated copy must raise BitstreamError. Anything else, a picture included, is a
fault, and the exit code says so.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec
from lic_train.errors import BitstreamError


def outcome(codec: Codec, data: bytes) -> str:
    """What decoding does with these bytes."""
    try:
        codec.decompress(Bitstream.from_bytes(data))
    except BitstreamError:
        return "BitstreamError"
    except Exception as error:
        return type(error).__name__
    return "decoded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--times", type=int, default=1000)
    options = parser.parse_args()
    codec = load_codec(options.run)
    data = options.file.read_bytes()
    draw = random.Random(0)
    altered: Counter[str] = Counter()
    truncated: Counter[str] = Counter()
    for _ in range(options.times):
        position = draw.randrange(len(data))
        value = data[position] ^ draw.randrange(1, 256)
        altered[outcome(codec, data[:position] + bytes([value]) + data[position + 1 :])] += 1
        truncated[outcome(codec, data[: draw.randrange(len(data))])] += 1
    print(f"{options.file}: {len(data)} bytes; unharmed: {outcome(codec, data)}")
    print(f"one byte altered:  {dict(altered)}")
    print(f"truncated:         {dict(truncated)}")
    sys.exit(int(set(altered) | set(truncated) != {"BitstreamError"}))


if __name__ == "__main__":
    main()
