"""What `inspect` shows: the contents of bundles and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.accuracy import NOT_MEASURED, Accuracy
from edge_agent.boards import profile
from edge_agent.bundle import Bundle, read_bundle
from edge_agent.runtime.plan import KernelStep, ProgramStep
from edge_agent.vta.config import Config
from edge_agent.vta.disassemble import listing as disassembled
from edge_agent.vta.isa import Opcode, opcodes
from edge_agent.vta.program import Program
from edge_agent.vta.program_file import read_program, write_program
from edge_agent.vta.timing import trace
from edgectl.decisions import Decision, compared, in_words, read_decisions
from edgectl.errors import UsageError
from edgectl.report.figures import Run, layers_of

BUS_BYTES = 8
"""The Pynq's memory port, for predictions about a program without a board."""


@dataclass(frozen=True)
class Opened:
    """The programs of a file by name, and the bundle where it is one.

    `decisions` are those about the layers of each program, in their order; none where they are not recorded.
    """

    bundle: Bundle | None
    programs: dict[str, Program]
    decisions: dict[str, tuple[Decision, ...]] = field(default_factory=dict)

    @property
    def bus_bytes(self) -> int:
        """Width of the memory port of the bundle's board. Raises IncompatibleError on an unknown board."""
        return BUS_BYTES if self.bundle is None else profile(self.bundle.manifest["board"]).bus_bytes

    def layers_called(self, name: str) -> list[tuple[str, int]]:
        """(program, place in it) of layers on VTA with this name, or that compute the model's layer of this name.

        Raises UsageError where there are none.
        """
        found = [
            (program, place)
            for program, contents in self.programs.items()
            for place, layer in enumerate(contents.layers)
            if layer.name == name or (program in self.decisions and self.decisions[program][place].is_of(name))
        ]
        if found:
            return found
        for entry in self.bundle.manifest["layers"]["cpu"] if self.bundle else ():
            if entry["layer"] == name:
                raise UsageError(f"layer '{name}' runs on the CPU: {entry['reason']}")
        names = [layer.name for program in self.programs.values() for layer in program.layers]
        raise UsageError(f"there is no layer '{name}' on VTA; there are {', '.join(names)}")


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
    return Opened(bundle, {only: programs[only]} if only else programs, _decisions(bundle, programs))


def _decisions(bundle: Bundle, programs: dict[str, Program]) -> dict[str, tuple[Decision, ...]]:
    """The bundle's decisions, which are in order of execution, by program."""
    remaining = list(read_decisions(bundle))
    if not remaining:
        return {}
    by_program = {}
    for step in bundle.plan.steps:
        if isinstance(step, ProgramStep):
            name = Path(step.program).stem
            count = len(programs[name].layers)
            by_program[name], remaining = tuple(remaining[:count]), remaining[count:]
    return by_program


def listing(opened: Opened, layer: str = "") -> list[str]:
    """Disassembly, one line an instruction. Raises UsageError for a layer that is not there."""
    lines: list[str] = []
    if not layer:
        for name, program in opened.programs.items():
            lines += [f"; program {name}", *disassembled(program)]
        return lines
    for name, place in opened.layers_called(layer):
        program = opened.programs[name]
        instructions = [line for line in disassembled(program) if not line.startswith(";")]
        known = program.layers[place]
        lines += [f"; {known.name} of program {name}", *instructions[known.begin : known.end]]
    return lines


def explain(opened: Opened, layer: str, tilings: bool = False) -> list[dict[str, Any]]:
    """How a layer is cut into tiles, as plain data; with `tilings`, beside those that the compiler compared.

    Several entries where a name is that of several copies. Raises UsageError for a layer that is not there or not
    recorded, IncompatibleError where the tilings cannot be found again.
    """
    entries: list[dict[str, Any]] = []
    for name, place in opened.layers_called(layer):
        if name not in opened.decisions:
            raise UsageError(
                f"it is not recorded how '{layer}' is cut into tiles; that is in bundles that this edgectl compiles"
            )
        program, decision = opened.programs[name], opened.decisions[name][place]
        run = Run(program, trace(program, opened.bus_bytes), 0)
        replayed = layers_of(run, name, {})[0][place]
        entries.append(
            {
                **decision.as_dict(),
                "program": name,
                "in_words": in_words(decision),
                "predicted_cycles": replayed.cycles,
                "counters": replayed.counters.as_dict(),
                **({"tilings": compared(decision, Config.parse(program.config))} if tilings else {}),
            }
        )
    return entries


def _predicted(manifest: Mapping[str, Any]) -> str:
    if "predicted" not in manifest:
        return "nothing: it is for the CPU of a host"
    predicted = manifest["predicted"]
    total = f" of {predicted['total_seconds'] * 1e3:.1f} ms in all" if "total_seconds" in predicted else ""
    return f"{predicted['vta_cycles']:,} cycles on VTA, {predicted['vta_seconds'] * 1e3:.1f} ms{total}"


def describe(opened: Opened) -> dict[str, Any]:
    """Everything but the instructions, as plain data."""
    summary: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    recorded = None
    if opened.bundle is not None:
        manifest = opened.bundle.manifest
        recorded, accuracy = manifest.get("accuracy"), Accuracy.of(manifest)
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
            "predicted": _predicted(manifest),
            "accuracy": accuracy.in_words() if accuracy else NOT_MEASURED,
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
    programs = [
        _program(name, Run(program, trace(program, opened.bus_bytes), 0), opened.decisions.get(name))
        for name, program in opened.programs.items()
    ]
    return {
        "summary": summary,
        "accuracy": recorded,
        "predicted_cycles": sum(program["predicted_cycles"] for program in programs),
        "programs": programs,
        "steps": steps,
    }


def _program(name: str, run: Run, decisions: tuple[Decision, ...] | None) -> dict[str, Any]:
    program = run.program
    kinds = opcodes(program.instructions)
    replayed, _ = layers_of(run, name, {})
    return {
        "name": name,
        "config": program.config,
        "features": sorted(program.features),
        "bytes": len(write_program(program)),
        "instructions": len(program.instructions),
        "predicted_cycles": run.trace.timing.cycles,
        "counters": program.counters.as_dict(),
        "tensors": [
            {"name": t.name, "role": t.role.value, "shape": list(t.shape), "dtype": t.dtype} for t in program.tensors
        ],
        "layers": [
            {
                "name": layer.name,
                **_kinds(kinds[layer.begin : layer.end].tolist()),
                "predicted_cycles": replayed[place].cycles,
                "tiling": asdict(decisions[place].tiling) if decisions else None,
            }
            for place, layer in enumerate(program.layers)
        ],
    }


def _kinds(kinds: Sequence[int]) -> dict[str, int]:
    counts = Counter(kinds)
    return {"instructions": len(kinds), **{code.name.lower(): counts[code] for code in Opcode}}
