"""Writing and reading programs as files. The format is documented in docs/program-format.md."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np

from edge_agent.errors import ProgramError
from edge_agent.vta.config import INSTRUCTION_BYTES, Memory
from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Layer, Program, ProgramTensor, Relocation, Role

MAGIC = b"VTAPROG\0"
FORMAT_VERSION = 1
ALIGNMENT = 256
_PREFIX = struct.Struct("<8sIIIIII")
"""Magic, version, bytes of the description, instructions, relocations, CRC-32 of what follows, zero."""


def _padding(nbytes: int) -> bytes:
    return bytes(-nbytes % ALIGNMENT)


def _describe(program: Program) -> bytes:
    document = {
        "name": program.name,
        "config": program.config,
        "features": sorted(program.features),
        "tensors": [
            {"name": t.name, "role": t.role.value, "memory": t.memory.name, "shape": list(t.shape), "dtype": t.dtype}
            for t in program.tensors
        ],
        "layers": [{"name": layer.name, "begin": layer.begin, "end": layer.end} for layer in program.layers],
        "counters": program.counters.as_dict(),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def write_program(program: Program) -> bytes:
    """The program as bytes. The same program gives the same bytes. Raises ProgramError where it is inconsistent."""
    program.check()
    description = _describe(program)
    relocations = np.array([(r.instruction, r.tensor) for r in program.relocations], "<u4").reshape(-1, 2)
    parts = [description, program.instructions.astype("<u8").tobytes(), relocations.tobytes()]
    parts += [program.constants[index] for index in sorted(program.constants)]
    # The prefix counts towards the first part's alignment.
    body = description + _padding(_PREFIX.size + len(description))
    body += b"".join(part + _padding(len(part)) for part in parts[1:])
    prefix = _PREFIX.pack(
        MAGIC, FORMAT_VERSION, len(description), len(program.instructions), len(relocations), zlib.crc32(body), 0
    )
    return prefix + body


class _Sections:
    """Takes consecutive aligned sections off a file, and refuses to read past its end."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, nbytes: int, what: str) -> bytes:
        begin, end = self._position, self._position + nbytes
        padded = end + -end % ALIGNMENT
        if padded > len(self._data):
            raise ProgramError(f"the program file ends at byte {len(self._data)}, its {what} at byte {padded}")
        if any(self._data[end:padded]):
            raise ProgramError(f"the program file's padding after its {what} is not zero")
        self._position = padded
        return self._data[begin:end]

    def finish(self) -> None:
        if self._position != len(self._data):
            raise ProgramError(f"the program file has {len(self._data)} bytes, its contents end at {self._position}")


def read_program(data: bytes) -> Program:
    """Read and check a program file. Raises ProgramError for anything malformed; never more memory than `data` has."""
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise ProgramError(f"not a VTA program file: it begins with {data[:8]!r}, not {MAGIC!r}")
    _, version, description_bytes, instruction_count, relocation_count, checksum, zero = _PREFIX.unpack_from(data)
    if version != FORMAT_VERSION:
        raise ProgramError(
            f"the program file has format version {version}, this agent reads {FORMAT_VERSION}; "
            "compile the model again with the agent's version of edgectl"
        )
    actual = zlib.crc32(data[_PREFIX.size :])
    if actual != checksum or zero != 0:
        raise ProgramError(
            f"the program file is damaged: its CRC-32 is {actual:#010x}, it says {checksum:#010x}; "
            "compile or upload it again"
        )
    sections = _Sections(data, _PREFIX.size)
    description = _parse(sections.take(description_bytes, "description"))
    words = sections.take(instruction_count * INSTRUCTION_BYTES, "instructions")
    pairs = np.frombuffer(sections.take(relocation_count * 8, "relocations"), "<u4").reshape(-1, 2)
    try:
        tensors = tuple(_tensor(entry) for entry in _list(description["tensors"]))
        constants = {
            index: sections.take(tensor.nbytes, f"constant '{tensor.name}'")
            for index, tensor in enumerate(tensors)
            if tensor.role is Role.CONSTANT
        }
        sections.finish()
        program = Program(
            name=_typed(description["name"], str),
            config=_typed(description["config"], str),
            features=frozenset(_typed(name, str) for name in _list(description["features"])),
            instructions=np.frombuffer(words, "<u8").reshape(-1, 2).astype(np.uint64),
            tensors=tensors,
            constants=constants,
            relocations=tuple(Relocation(instruction, tensor) for instruction, tensor in pairs.tolist()),
            layers=tuple(
                Layer(_typed(entry["name"], str), _natural(entry["begin"]), _natural(entry["end"]))
                for entry in _list(description["layers"])
            ),
            counters=Counters(
                **{_typed(name, str): _natural(value) for name, value in _typed(description["counters"], dict).items()}
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramError(f"the program file's description is malformed: {error!r}") from error
    program.check()
    return program


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return _typed(json.loads(text.decode()), dict)
    except (ValueError, TypeError, RecursionError) as error:
        raise ProgramError(f"the program file's description is not a JSON object: {error}") from error


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.80} is not of type {kind.__name__}")
    return value


def _list(value: Any) -> list[Any]:
    return list(_typed(value, list))


def _natural(value: Any) -> int:
    if _typed(value, int) < 0:
        raise ValueError(f"{value} is negative")
    return int(value)


def _tensor(entry: dict[str, Any]) -> ProgramTensor:
    return ProgramTensor(
        name=_typed(entry["name"], str),
        role=Role(entry["role"]),
        memory=Memory[_typed(entry["memory"], str)],
        shape=tuple(_natural(extent) for extent in _list(entry["shape"])),
        dtype=_typed(entry["dtype"], str),
    )
