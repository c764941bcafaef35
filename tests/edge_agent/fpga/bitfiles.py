"""Bitstreams of the right form, made for tests: no published one is in reach of them."""

from __future__ import annotations

import random
import struct

SYNC = bytes.fromhex("AA995566")
PYNQ_BYTES = 4_045_564
PYNQ_IDCODE = 0x03727093


def configuration(nbytes: int = PYNQ_BYTES, idcode: int | None = PYNQ_IDCODE, seed: int = 1) -> bytes:
    """Data as a .bit file has it: 48 bytes before the sync word, the first packets, then what the seed gives."""
    packets = [0x20000000, 0x30022001, 0, 0x30020001, 0, 0x30008001, 0, 0x20000000, 0x30008001, 7, 0x20000000]
    packets += [0x30026001, 0, 0x30012001, 0x02003FE5, 0x3001C001, 0]
    if idcode is not None:
        packets += [0x30018001, idcode]
    packets += [0x30008001, 9, 0x50000000]
    begin = b"\xff" * 32 + bytes.fromhex("000000BB 11220044") + b"\xff" * 8 + SYNC
    begin += b"".join(struct.pack(">I", word) for word in packets)
    return begin + random.Random(seed).randbytes(nbytes - len(begin))


def bit_file(
    data: bytes, part: str = "7z020clg484", design: str = "vta;UserID=0XFFFFFFFF;Version=2018.3", announced: int = -1
) -> bytes:
    """A .bit file around data; `announced` is the length in its header where that shall be a lie."""
    made = struct.pack(">H", 9) + bytes.fromhex("0ff00ff00ff00ff000") + struct.pack(">H", 1)
    for key, text in ((b"a", design), (b"b", part), (b"c", "2020/06/30"), (b"d", "18:11:16")):
        encoded = text.encode("latin-1") + b"\0"
        made += key + struct.pack(">H", len(encoded)) + encoded
    return made + b"e" + struct.pack(">I", len(data) if announced < 0 else announced) + data


def swapped(data: bytes) -> bytes:
    """The bytes of each 32-bit word reversed."""
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
