"""The seven counters of the reference simulator, computed from instructions (programs are static)."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Counters:
    """Bytes moved by stream and operations done, per run. Names and meaning: vta-facts 5.1.

    `gemm_counter` counts micro-op executions of GEMMs without reset, `alu_counter` those of ALU instructions.
    """

    inp_load_nbytes: int = 0
    wgt_load_nbytes: int = 0
    acc_load_nbytes: int = 0
    uop_load_nbytes: int = 0
    out_store_nbytes: int = 0
    gemm_counter: int = 0
    alu_counter: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
