"""The ELF reader, on linked libraries and on damaged ones."""

from __future__ import annotations

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.cpu import processor_flags, this_machine
from edge_agent.runtime.elf import machine_of, read_elf, require_whole
from edgectl.codegen.cpu import TARGETS
from edgectl.codegen.cpu.link import link_library

LIBRARIES = {name: link_library([], TARGETS[name]) for name in ("armv7", "x86_64")}


@pytest.mark.parametrize(("name", "bits"), [("armv7", 32), ("x86_64", 64)])
def test_reads_a_library(name: str, bits: int) -> None:
    elf = read_elf(LIBRARIES[name])
    assert (elf.bits, elf.machine, elf.machine_name) == (bits, TARGETS[name].elf_machine, TARGETS[name].machine)
    assert elf.defined == {"edge_kernels_last_error", "edge_kernels_use_threads"}
    assert {"free", "posix_memalign", "pthread_create", "pthread_join"} <= elf.undefined and elf.needed == ()


def test_unknown_machines_are_named_by_number() -> None:
    assert machine_of(b"\x7fELF\x02\x01" + bytes(12) + b"\x34\x12") == f"ELF machine {0x1234}"


@given(st.sampled_from(sorted(LIBRARIES)), st.data())
def test_damage_is_an_error_or_harmless(name: str, data: st.DataObject) -> None:
    library = bytearray(LIBRARIES[name])
    if data.draw(st.booleans()):
        del library[data.draw(st.integers(0, len(library) - 1)) :]
    for _ in range(data.draw(st.integers(0, 20))):
        if library:
            library[data.draw(st.integers(0, min(len(library), 200) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_elf(bytes(library))
    except IncompatibleError as error:
        assert "ELF" in str(error)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_is_whole_up_to_the_end_of_its_last_segment(name: str) -> None:
    library = LIBRARIES[name]
    require_whole(library)
    sizes = range(len(library))
    shortest = bisect.bisect_left(sizes, True, key=lambda size: is_whole(library[:size]))
    assert 20 < shortest < len(library)
    with pytest.raises(IncompatibleError, match=f"it has {shortest - 1} bytes, its segments reach to {shortest}"):
        require_whole(library[: shortest - 1])


def is_whole(data: bytes) -> bool:
    try:
        require_whole(data)
    except IncompatibleError:
        return False
    return True


@given(st.binary(max_size=300))
def test_garbage_behind_a_header_is_damaged(garbage: bytes) -> None:
    for header in (b"\x7fELF\x01\x01", b"\x7fELF\x02\x01"):
        try:
            require_whole(header + garbage)
        except IncompatibleError as error:
            assert "ELF" in str(error)


def test_this_machine_is_one_that_targets_know() -> None:
    assert this_machine() in {target.machine for target in TARGETS.values()}
    assert processor_flags()
