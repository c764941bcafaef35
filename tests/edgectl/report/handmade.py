"""A program of two layers, short enough to reckon by hand, and figures made of it."""

from __future__ import annotations

from edge_agent.boards import profile
from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Store, encode_stream
from edge_agent.vta.program import Layer, Program
from edge_agent.vta.timing import sensitivity, trace
from edgectl.bounds import Bound
from edgectl.report.figures import Figures, Run, layers_of

BOUNDS = {"first": Bound(macs=90 * 256, gemm=90, alu=10, input_bytes=1000, output_bytes=1024), "second": Bound(gemm=50)}


def program() -> Program:
    """`first` loads, multiplies, shifts and stores; `second` loads micro-ops and multiplies without waiting."""
    instructions = [
        Load(Memory.INP, 0, 0, 1, 64, 64, push_next=True),
        Gemm(reset=False, uop_bgn=0, uop_end=100, pop_prev=True),
        Alu(AluOpcode.SHR, True, 1, 0, 10, iter_out=2, push_next=True),
        Store(0, 0, 1, 64, 64, pop_prev=True, push_prev=True),
        Load(Memory.UOP, 0, 0, 1, 50, 50),
        Gemm(reset=False, uop_bgn=0, uop_end=50),
        Gemm(reset=True, uop_bgn=0, uop_end=5),
        Finish(pop_next=True),
    ]
    words = encode_stream(instructions, DEFAULT_CONFIG)
    layers = (Layer("first", 0, 4), Layer("second", 4, 7))
    return Program("p", DEFAULT_CONFIG.name, frozenset(), words, (), {}, (), layers, count(words, DEFAULT_CONFIG))


def run(offset: int = 0) -> Run:
    made = program()
    return Run(made, trace(made, 8), offset)


def figures() -> Figures:
    made = run()
    layers, rest = layers_of(made, "p", BOUNDS)
    total = BOUNDS["first"] + BOUNDS["second"]
    return Figures("net", "0" * 64, profile("sim"), (made,), tuple(layers), (rest,), total,
                   sensitivity(made.program, 8), 3, (("conv0", "it has 3 input channels"),))  # fmt: skip
