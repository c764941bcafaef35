"""Targets: found by name, and the host's is one that this machine runs."""

from __future__ import annotations

import pytest

from edgectl.codegen.cpu import TARGETS, cpu_target, target
from edgectl.codegen.cpu.target import target_for
from edgectl.errors import CompileError


def test_named_targets() -> None:
    assert {name: (t.machine, t.elf_machine) for name, t in TARGETS.items()} == {
        "x86_64": ("x86_64", 62),
        "x86_64_v3": ("x86_64", 62),
        "x86_64_v4": ("x86_64", 62),
        "armv7": ("armv7l", 40),
        "aarch64": ("aarch64", 183),
    }
    assert cpu_target("armv7") is TARGETS["armv7"]
    with pytest.raises(CompileError, match=r"unknown CPU target 'riscv'.*armv7"):
        cpu_target("riscv")


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", (), "x86_64"),
        ("x86_64", TARGETS["x86_64_v3"].flags, "x86_64_v3"),
        ("x86_64", TARGETS["x86_64_v4"].flags, "x86_64_v4"),
        ("aarch64", ("asimd",), "aarch64"),
        ("armv7l", ("neon", "vfpv3"), "armv7"),
        ("armv7l", (), "armv7"),
    ],
)
def test_host_is_the_best_level_this_machine_has(
    machine: str, flags: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "this_machine", lambda: machine)
    monkeypatch.setattr(target, "processor_flags", lambda: frozenset(flags))
    assert cpu_target("host").name == expected


def test_a_processor_without_what_kernels_need_has_no_target() -> None:
    with pytest.raises(CompileError, match="armv7l"):
        target_for("armv7l", frozenset({"vfpv3d16"}))


def test_host_without_a_target_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "this_machine", lambda: "riscv64")
    with pytest.raises(CompileError, match="riscv64"):
        cpu_target("host")
