"""The program file: round trips, damage of every kind, and an independent decoding of the documented layout."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProgramError
from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Layer, Program, ProgramTensor, Relocation, Role
from edge_agent.vta.program_file import read_program, write_program

from .builder import TiledConvolution

VALID = write_program(TiledConvolution().build())


def assert_equal(left: Program, right: Program) -> None:
    np.testing.assert_array_equal(left.instructions, right.instructions)
    empty = np.zeros((0, 2), np.uint64)
    assert replace(left, instructions=empty) == replace(right, instructions=empty)


def resealed(description: dict[str, object], data: bytes = VALID) -> bytes:
    """The file with another description and a correct checksum."""
    old_length = struct.unpack_from("<I", data, 12)[0]
    rest = data[32 + old_length + -(32 + old_length) % 256 :]
    text = json.dumps(description).encode()
    body = text + bytes(-(32 + len(text)) % 256) + rest
    counts = struct.unpack_from("<II", data, 16)
    return struct.pack("<8sIIIIII", data[:8], 1, len(text), *counts, zlib.crc32(body), 0) + body


def description() -> dict[str, object]:
    return json.loads(VALID[32 : 32 + struct.unpack_from("<I", VALID, 12)[0]])


names = st.text(max_size=12)
naturals = st.integers(0, 2**40)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    words = draw(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20))
    tensors, constants = [], {}
    for index, name in enumerate(draw(st.lists(names, unique=True, max_size=5))):
        memory, dtype, inner = draw(
            st.sampled_from(
                [
                    (Memory.INP, "int8", (1, 16)),
                    (Memory.WGT, "int8", (16, 16)),
                    (Memory.ACC, "int32", (1, 16)),
                    (Memory.UOP, "uint32", ()),
                ]
            )
        )
        shape = (*draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)), *inner)
        tensors.append(ProgramTensor(name, draw(st.sampled_from(Role)), memory, shape, dtype))
        if tensors[-1].role is Role.CONSTANT:
            constants[index] = draw(st.binary(min_size=tensors[-1].nbytes, max_size=tensors[-1].nbytes))
    relocated = draw(st.lists(st.sampled_from(range(len(words))), unique=True)) if words and tensors else []
    return Program(
        name=draw(names),
        config=DEFAULT_CONFIG.name,
        features=frozenset(draw(st.lists(names, max_size=3))),
        instructions=np.array(words, np.uint64).reshape(-1, 2),
        tensors=tuple(tensors),
        constants=constants,
        relocations=tuple(Relocation(i, draw(st.integers(0, len(tensors) - 1))) for i in sorted(relocated)),
        layers=tuple(Layer(draw(names), 0, draw(st.integers(0, len(words)))) for _ in range(draw(st.integers(0, 3)))),
        counters=Counters(*[draw(naturals) for _ in range(7)]),
    )


@given(programs())
def test_round_trip(program: Program) -> None:
    data = write_program(program)
    assert_equal(read_program(data), program)
    assert write_program(read_program(data)) == data


@given(st.integers(0, len(VALID) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(ProgramError):
        read_program(VALID[:length])


@given(st.integers(0, len(VALID) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(VALID)
    damaged[position] ^= change
    with pytest.raises(ProgramError):
        read_program(bytes(damaged))


@given(st.binary(max_size=400), st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
def test_garbage_behind_a_correct_prefix_is_refused(body: bytes, lengths: tuple[int, int, int]) -> None:
    prefix = struct.pack("<8sIIIIII", b"VTAPROG\0", 1, *lengths, zlib.crc32(body), 0)
    with pytest.raises(ProgramError):
        read_program(prefix + body)


def test_a_longer_file_is_refused() -> None:
    body = VALID[32:] + bytes(256)
    longer = VALID[:24] + struct.pack("<II", zlib.crc32(body), 0) + body
    with pytest.raises(ProgramError, match=f"has {len(VALID) + 256} bytes, its contents end at {len(VALID)}"):
        read_program(longer)


def test_other_files_and_versions_are_named() -> None:
    with pytest.raises(ProgramError, match=r"begins with b'PK\\x03\\x04'"):
        read_program(b"PK\x03\x04")
    with pytest.raises(ProgramError, match="format version 2, this agent reads 1"):
        read_program(VALID[:8] + struct.pack("<I", 2) + VALID[12:])


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("name", 5, "5 is not of type str"),
        ("config", "1x16", "'1x16' is not a VTA configuration"),
        ("config", "1x16_i8w8a32_999999999_15_18_17", "a number above 256"),
        ("features", "alu_mul", "is not of type list"),
        ("tensors", [], "its contents end at"),
        ("layers", [{"name": "conv", "begin": 0, "end": 99999}], "layer 'conv' is instructions 0 to 99999"),
        ("layers", [{"name": "conv", "begin": -1, "end": 0}], "-1 is negative"),
        ("layers", [{"name": "conv"}], "malformed: KeyError"),
        ("counters", {"gemm_counter": 1.5}, "1.5 is not of type int"),
        ("counters", {"flops": 1}, "malformed: TypeError"),
    ],
)
def test_wrong_descriptions_are_refused(entry: str, value: object, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        read_program(resealed({**description(), entry: value}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("role", "secret", "not a valid Role"),
        ("memory", "DDR", "KeyError('DDR')"),
        ("dtype", "object", "is object (1, 2, 8, 8, 1, 16)"),
        ("shape", [2**40, 2**40, 1, 16], "bytes, at most 1073741824 are accepted"),
        ("shape", [1, True], "True is not of type int"),
        ("shape", [1, 2, 8, 8, 1, 15], "INP elements are int8, the last axes being (1, 16)"),
        ("shape", [16], "is int8 (16,)"),
        ("shape", [0, 1, 16], "is int8 (0, 1, 16)"),
        ("dtype", "int32", "is int32"),
        ("name", "y", "two tensors named 'y'"),
    ],
)
def test_wrong_tensors_are_refused(entry: str, value: object, message: str) -> None:
    document = description()
    tensors = document["tensors"]
    assert isinstance(tensors, list) and tensors[0]["name"] == "x"
    tensors[0][entry] = value
    with pytest.raises(ProgramError) as caught:
        read_program(resealed(document))
    assert message in str(caught.value)


def test_relocations_must_ascend_and_exist() -> None:
    program = TiledConvolution().build()
    first = program.relocations[0]
    for relocations, message in [
        ((first, first), "relocation of instruction 0 after 0"),
        ((Relocation(10_000, 0),), "relocation of instruction 10000"),
        ((Relocation(0, 99),), "names tensor 99 of 5"),
    ]:
        with pytest.raises(ProgramError, match=message):
            write_program(replace(program, relocations=relocations))


def test_constants_must_have_their_tensors_sizes() -> None:
    program = TiledConvolution().build()
    index = min(program.constants)
    for constants, message in [
        ({**program.constants, index: b""}, r"needs \d+ bytes of data, the program has 0"),
        ({**program.constants, 99: b""}, "tensors that it does not have"),
        ({**program.constants, 0: b"1"}, r"'x' \(input\) .* needs None bytes"),
    ]:
        with pytest.raises(ProgramError, match=message):
            write_program(replace(program, constants=constants))


def test_the_documented_layout_decodes_without_this_package() -> None:
    """What docs/program-format.md says, followed with struct and json alone."""
    program = TiledConvolution().build()
    magic, version, text_bytes, instructions, relocations, checksum, zero = struct.unpack_from("<8sIIIIII", VALID)
    assert (magic, version, zero, checksum) == (b"VTAPROG\0", 1, 0, zlib.crc32(VALID[32:]))
    position = 32
    document = json.loads(VALID[position : position + text_bytes])
    position += text_bytes

    def align() -> int:
        return -(-position // 256) * 256

    position = align()
    words = np.frombuffer(VALID, "<u8", instructions * 2, position).reshape(-1, 2)
    np.testing.assert_array_equal(words, program.instructions)
    position += instructions * 16
    position = align()
    assert struct.unpack_from("<II", VALID, position) == (0, 2)
    position += relocations * 8
    for index, tensor in enumerate(document["tensors"]):
        if tensor["role"] == "constant":
            position = align()
            nbytes = int(np.prod(tensor["shape"])) * {"int8": 1, "int32": 4, "uint32": 4}[tensor["dtype"]]
            assert VALID[position : position + nbytes] == program.constants[index]
            position += nbytes
    assert align() == len(VALID)
