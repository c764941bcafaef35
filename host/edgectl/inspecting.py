"""What `inspect` shows: the contents of bundles and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle, read_bundle
from edge_agent.runtime.plan import KernelStep
from edge_agent.vta.config import Config
from edge_agent.vta.disassemble import listing as disassembled
from edge_agent.vta.isa import Opcode, opcodes
from edge_agent.vta.program import Program
from edge_agent.vta.program_file import read_program, write_program
from edge_agent.vta.timing import predict
from edgectl.errors import UsageError

BUS_BYTES = 8
"""The Pynq's memory port, for predictions about a program without a board."""


@dataclass(frozen=True)
class Opened:
    """The programs of a file by name, and the bundle where it is one."""

    bundle: Bundle | None
    programs: dict[str, Program]


def open_programs(path: str, only: str = "") -> Opened:
    """Open a bundle or a .vta file; `only` names one program. Raises UsageError, VerificationError, ProgramError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if data[:2] != b"PK" and path.endswith(".vta"):
        program = read_program(data)
        return Opened(None, {program.name: program})
    bundle = read_bundle(data)
    programs = {
        Path(member).stem: read_program(content)
        for member, content in bundle.members.items()
        if member.startswith("programs/")
    }
    if only and only not in programs:
        raise UsageError(f"there is no program '{only}' in {path}; it has {', '.join(programs) or 'none'}")
    return Opened(bundle, {only: programs[only]} if only else programs)


def listing(opened: Opened, layer: str = "") -> list[str]:
    """Disassembly, one line an instruction. Raises UsageError for a layer that is not there."""
    lines: list[str] = []
    names = [known.name for program in opened.programs.values() for known in program.layers]
    if layer and layer not in names:
        raise UsageError(f"there is no layer '{layer}' on VTA; there are {', '.join(names)}")
    for name, program in opened.programs.items():
        if not layer:
            lines += [f"; program {name}", *disassembled(program)]
            continue
        instructions = [line for line in disassembled(program) if not line.startswith(";")]
        for known in program.layers:
            if known.name == layer:
                lines += [f"; {layer} of program {name}", *instructions[known.begin : known.end]]
    return lines


def describe(opened: Opened) -> dict[str, Any]:
    """Everything but the instructions, as plain data."""
    summary: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    if opened.bundle is not None:
        manifest = opened.bundle.manifest
        predicted = manifest["predicted"]
        summary = {
            "model": manifest["model"]["name"],
            "made from": ", ".join(
                f"{k} {v}" for k, v in manifest["model"].items() if k in ("source", "calibrated_on")
            ),
            "weights": " ".join(manifest["model"].get("weights", {}).values()),
            "board": f"{manifest['board']}, {manifest['config']}, {manifest['cpu']['name']}",
            "digest": opened.bundle.digest,
            "inputs": ", ".join(f"{spec['name']} {spec['dtype']}{spec['shape']}" for spec in manifest["inputs"]),
            "outputs": ", ".join(f"{spec['name']} {spec['dtype']}{spec['shape']}" for spec in manifest["outputs"]),
            "preprocessing": manifest["preprocessing"],
            "labels": f"{len(manifest['labels'])} classes",
            "counters": ", ".join(f"{name} {value:,}" for name, value in manifest["counters"].items()),
            "predicted": f"{predicted['vta_cycles']:,} cycles on VTA, {predicted['vta_seconds'] * 1e3:.1f} ms"
            + (f" of {predicted['total_seconds'] * 1e3:.1f} ms in all" if "total_seconds" in predicted else ""),
            "members": ", ".join(f"{name} {entry['bytes']:,}" for name, entry in manifest["members"].items()),
        }
        steps = [
            {"runs": step.kernel, "layers": list(step.layers)}
            if isinstance(step, KernelStep)
            else {
                "runs": step.program,
                "layers": [layer.name for layer in opened.programs[Path(step.program).stem].layers]
                if Path(step.program).stem in opened.programs
                else [],
            }
            for step in opened.bundle.plan.steps
        ]
    return {"summary": summary, "programs": [_program(name, p) for name, p in opened.programs.items()], "steps": steps}


def _program(name: str, program: Program) -> dict[str, Any]:
    Config.parse(program.config)
    kinds = opcodes(program.instructions)
    return {
        "name": name,
        "config": program.config,
        "features": sorted(program.features),
        "bytes": len(write_program(program)),
        "instructions": len(program.instructions),
        "predicted_cycles": predict(program, BUS_BYTES).cycles,
        "counters": program.counters.as_dict(),
        "tensors": [
            {"name": t.name, "role": t.role.value, "shape": list(t.shape), "dtype": t.dtype} for t in program.tensors
        ],
        "layers": [{"name": layer.name, **_kinds(kinds[layer.begin : layer.end].tolist())} for layer in program.layers],
    }


def _kinds(kinds: Sequence[int]) -> dict[str, int]:
    counts = Counter(kinds)
    return {"instructions": len(kinds), **{code.name.lower(): counts[code] for code in Opcode}}
