"""Reads what matters of an ELF shared library before anything loads it: its machine and what it needs from outside.

Formulas: System V ABI (gABI), chapters "Object Files" and "Dynamic Linking".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.errors import IncompatibleError

MACHINES = {40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64", 3: "i686"}
"""e_machine to the name that manifests use."""

HEADER_BYTES = 20
"""How much of a file `machine_of` looks at."""

_DYNAMIC, _DYNAMIC_SYMBOLS = 6, 11  # section types
_LOAD = 1  # segment type
_NEEDED = 1  # dynamic tag
_GLOBAL, _WEAK = 1, 2  # symbol bindings


@dataclass(frozen=True)
class ElfLibrary:
    """`bits` is 32 or 64; `needed` are the libraries it names; symbols are those of its dynamic table."""

    bits: int
    machine: int
    needed: tuple[str, ...]
    undefined: frozenset[str]
    defined: frozenset[str]

    @property
    def machine_name(self) -> str:
        return MACHINES.get(self.machine, f"ELF machine {self.machine}")


def machine_of(data: bytes) -> str:
    """The machine's name from an ELF file's first HEADER_BYTES bytes. Raises IncompatibleError where it is none."""
    if len(data) < HEADER_BYTES or data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] != 1:
        raise IncompatibleError(f"not a little-endian ELF file: it begins with {data[:6]!r}")
    (machine,) = struct.unpack_from("<H", data, 18)
    return MACHINES.get(machine, f"ELF machine {machine}")


def require_whole(data: bytes) -> None:
    """Raise IncompatibleError where `data` is no little-endian ELF file, or ends before what a loader would map of it:
    a process that touches such a page is killed, instead of told."""
    machine_of(data)
    try:
        end = max((begin + size for begin, size in _loaded(data)), default=0)
    except (struct.error, IndexError, OverflowError) as error:
        raise IncompatibleError(f"the ELF library is damaged: {error}") from error
    if not 0 < end <= len(data):
        raise IncompatibleError(f"the ELF library is damaged: it has {len(data)} bytes, its segments reach to {end}")


def _loaded(data: bytes) -> Iterator[tuple[int, int]]:
    """(file offset, bytes) of each segment that is loaded."""
    if data[4] == 1:
        (start,), (size, count) = struct.unpack_from("<I", data, 28), struct.unpack_from("<HH", data, 42)
        layout, offset, length = "<5I", 1, 4
    else:
        (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
        layout, offset, length = "<IIQQQQ", 2, 5
    for index in range(count):
        header = struct.unpack_from(layout, data, start + index * size)
        if header[0] == _LOAD:
            yield header[offset], header[length]


def read_elf(data: bytes) -> ElfLibrary:
    """Read a little-endian ELF library. Raises IncompatibleError where it is none, or damaged."""
    machine_of(data)
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise IncompatibleError(f"the ELF library is damaged: {error}") from error


def _read(data: bytes) -> ElfLibrary:
    bits = 32 if data[4] == 1 else 64
    (machine,) = struct.unpack_from("<H", data, 18)
    section_offset, section_size, section_count = (
        (*struct.unpack_from("<I", data, 32), *struct.unpack_from("<HH", data, 46))
        if bits == 32
        else (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
    )
    sections = [_section(data, section_offset + i * section_size, bits) for i in range(section_count)]
    needed: list[str] = []
    undefined: set[str] = set()
    defined: set[str] = set()
    for kind, offset, size, link in sections:
        if kind == _DYNAMIC:
            strings = sections[link][1]
            pairs = struct.iter_unpack("<II" if bits == 32 else "<QQ", data[offset : offset + size])
            needed += [_string(data, strings + value) for tag, value in pairs if tag == _NEEDED]
        elif kind == _DYNAMIC_SYMBOLS:
            strings = sections[link][1]
            for name, info, section in _symbols(data[offset : offset + size], bits):
                if info >> 4 in (_GLOBAL, _WEAK) and name:
                    (defined if section else undefined).add(_string(data, strings + name))
    return ElfLibrary(bits, machine, tuple(needed), frozenset(undefined), frozenset(defined))


def _section(data: bytes, offset: int, bits: int) -> tuple[int, int, int, int]:
    """(type, file offset, bytes, linked section)."""
    if bits == 32:
        _, kind, _, _, start, size, link = struct.unpack_from("<7I", data, offset)
    else:
        _, kind, _, _, start, size, link = struct.unpack_from("<IIQQQQI", data, offset)
    return kind, start, size, link


def _symbols(table: bytes, bits: int) -> list[tuple[int, int, int]]:
    """(name offset, info, section index) of each entry."""
    if bits == 32:
        return [(name, info, section) for name, _, _, info, _, section in struct.iter_unpack("<IIIBBH", table)]
    return [(name, info, section) for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", table)]


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("ascii", "replace")
