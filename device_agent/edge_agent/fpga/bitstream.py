"""Bitstream files of Xilinx FPGAs: `.bit` with a header, and `.bin` without one, in either byte order.

A `.bit` file is big-endian: a fixed preamble, then records of a one-letter key, a 16-bit length and a text that ends
with NUL (a: design, b: part, c: date, d: time), then key e with a 32-bit length and the configuration data. A `.bin`
file is the configuration data alone, often with the bytes of each 32-bit word reversed. The word AA995566 in the data
tells which: the FPGA looks for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from edge_agent.boards import Fpga
from edge_agent.errors import IncompatibleError, VerificationError

SYNC = 0xAA995566
_SYNC_BYTES = SYNC.to_bytes(4, "big")
_SYNC_WITHIN = 4096
"""Bytes at the beginning of the data in which the sync word must come."""
_PREAMBLE = bytes.fromhex("0009 0ff00ff00ff00ff000 0001")
_TEXTS = (b"a", b"b", b"c", b"d")
_WORD = 4
MAXIMUM_BYTES = 128 << 20
"""No image of an FPGA on a board like these is longer."""

_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Each byte with its bits in reverse order, as flash programmers store them."""

_WRITE_IDCODE = 0x30018001
_PACKET_WORDS = 256
"""The identity of the device is written within so many words after the sync word."""
IDCODE_MASK = 0x0FFFFFFF
"""The upper four bits are the silicon's revision."""


@dataclass(frozen=True)
class Header:
    """What a .bit file says of itself: `design` with the tool's version, `part` such as 7z020clg484, `date`, `time`."""

    design: str
    part: str
    date: str
    time: str

    @property
    def built(self) -> str:
        return f"{self.date} {self.time}".strip()


@dataclass(frozen=True, eq=False)
class Image:
    """Configuration data, its words as in a .bit file, and the header where the file had one.

    `idcode` is the device that the data names, None where it names none.
    """

    data: bytes
    header: Header | None
    idcode: int | None

    def for_kernel(self, fpga: Fpga) -> bytes:
        """The data as the kernel's driver of this FPGA takes it."""
        return reverse_words(self.data) if fpga.swap_words else self.data


def reverse_words(data: bytes) -> bytes:
    """The bytes of each 32-bit word in reverse order; the length is a multiple of 4."""
    return np.frombuffer(data, ">u4").astype("<u4").tobytes()


def read_image(file: bytes) -> Image:
    """The image in a file's bytes, whichever format it has.

    Raises VerificationError where it is empty, truncated, or nothing that an FPGA would take.
    """
    if not file:
        raise VerificationError("the bitstream is empty; download or build it again")
    header, data = _split(file) if file.startswith(_PREAMBLE) else (None, file)
    if len(data) % _WORD:
        raise VerificationError(
            f"the bitstream's data has {len(data)} bytes, not a multiple of {_WORD}: it is truncated; download or "
            "build it again"
        )
    begin = data[:_SYNC_WITHIN]
    offset = _find_word(begin, _SYNC_BYTES)
    if offset is None:
        offset = _find_word(begin, _SYNC_BYTES[::-1])
        if offset is None:
            raise VerificationError(_no_sync_word(begin))
        if header is not None:
            raise VerificationError(
                "the bitstream's header is that of a .bit file, but the words of its data are reversed as for the "
                "kernel; give the file as the tool wrote it"
            )
        data = reverse_words(data)
    return Image(data, header, _idcode(data, offset + _WORD))


def _no_sync_word(begin: bytes) -> str:
    if _find_word(begin.translate(_MIRRORED), _SYNC_BYTES) is not None:
        return "the bits of the bitstream's bytes are reversed, as for a flash memory; give the .bit or .bin file"
    return (
        f"there is no sync word {SYNC:08X}, in either byte order, in the first {len(begin)} bytes: this is no "
        "bitstream of a Xilinx FPGA; give the .bit or .bin file that the tool wrote"
    )


def _find_word(data: bytes, word: bytes) -> int | None:
    offset = data.find(word)
    while offset >= 0 and offset % _WORD:
        offset = data.find(word, offset + 1)
    return offset if offset >= 0 else None


def _split(file: bytes) -> tuple[Header, bytes]:
    """The header and the data of a .bit file. Raises VerificationError."""
    texts, offset = [], len(_PREAMBLE)
    try:
        for key in _TEXTS:
            if file[offset : offset + 1] != key:
                raise _damaged(f"record '{key.decode()}' is missing at byte {offset}")
            (length,) = struct.unpack_from(">H", file, offset + 1)
            text = file[offset + 3 : offset + 3 + length]
            if len(text) != length or not text.endswith(b"\0"):
                raise _damaged(f"record '{key.decode()}' at byte {offset} has no end")
            texts.append(text[:-1].decode("latin-1"))
            offset += 3 + length
        if file[offset : offset + 1] != b"e":
            raise _damaged(f"record 'e' is missing at byte {offset}")
        (length,) = struct.unpack_from(">I", file, offset + 1)
    except struct.error:
        raise _damaged("it ends within its header") from None
    data = file[offset + 5 :]
    if len(data) != length:
        what = "truncated" if len(data) < length else "followed by something else"
        raise VerificationError(
            f"the bitstream's header announces {length} bytes of data, {len(data)} are there: it is {what}; download "
            "or build it again"
        )
    return Header(*texts), data


def _damaged(why: str) -> VerificationError:
    return VerificationError(f"the bitstream's header is damaged: {why}; download or build it again")


def _idcode(data: bytes, offset: int) -> int | None:
    """The device that the first packets after the sync word write to the IDCODE register."""
    words = np.frombuffer(data[offset : offset + _PACKET_WORDS * _WORD], ">u4").tolist()
    index = 0
    while index + 1 < len(words):
        word = words[index]
        if word == _WRITE_IDCODE:
            return int(words[index + 1])
        if word >> 29 != 1:
            return None
        # A packet of type 1 is followed by as many words as its lowest 11 bits say.
        index += 1 + (word & 0x7FF)
    return None


def part_of(header_part: str) -> str:
    """A header's part as profiles spell it: 7z020clg484, xc7z020-clg484-1 and 7Z020CLG484 alike."""
    return header_part.lower().removeprefix("xc")


def check_part(image: Image, fpga: Fpga, board: str) -> None:
    """Raise IncompatibleError, naming both parts, where an image is for another device than the board's FPGA."""
    wanted = fpga.part.lower()
    if image.header is not None:
        found = part_of(image.header.part)
        if not found.startswith(wanted) or found[len(wanted) : len(wanted) + 1].isdigit():
            raise IncompatibleError(
                f"the bitstream's header says that it is for {image.header.part}, board '{board}' has a {fpga.part}; "
                f"give a bitstream for that board: `edgectl flash {board}` takes the published one"
            )
    if image.idcode is not None and fpga.idcode and (image.idcode ^ fpga.idcode) & IDCODE_MASK:
        raise IncompatibleError(
            f"the bitstream's data is for the device with identity {image.idcode:#010x}, board '{board}' has a "
            f"{fpga.part}, identity {fpga.idcode:#010x}; give a bitstream for that board"
        )


def check_length(image: Image, fpga: Fpga) -> None:
    """Raise VerificationError where an image is shorter or longer than this FPGA's are."""
    if fpga.bitstream_bytes and len(image.data) != fpga.bitstream_bytes:
        raise VerificationError(
            f"the bitstream has {len(image.data)} bytes of data, an image of a {fpga.part} has {fpga.bitstream_bytes}: "
            "it is truncated, compressed or partial; give a whole one"
        )


def checked_image(file: bytes, fpga: Fpga, board: str) -> Image:
    """The image in a file, if it may be given to this FPGA. Raises VerificationError or IncompatibleError."""
    image = read_image(file)
    check_part(image, fpga, board)
    check_length(image, fpga)
    return image
