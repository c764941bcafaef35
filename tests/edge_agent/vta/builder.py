"""Small programs for tests: a builder, and a hand-made tiled convolution with double buffering."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import (
    Alu,
    AluOpcode,
    Finish,
    Gemm,
    Instruction,
    Load,
    Store,
    encode_micro_ops,
    encode_stream,
)
from edge_agent.vta.program import Layer, Program, ProgramTensor, Relocation, Role


@dataclass
class ProgramBuilder:
    """Collects instructions, each with the tensor that it addresses; everything may be edited until `build`."""

    config: Config = DEFAULT_CONFIG
    features: frozenset[str] = frozenset()
    instructions: list[Instruction] = field(default_factory=list)
    addressed: list[str | None] = field(default_factory=list)
    tensors: dict[str, ProgramTensor] = field(default_factory=dict)
    constants: dict[str, bytes] = field(default_factory=dict)

    def tensor(self, name: str, role: Role, memory: Memory, shape: tuple[int, ...], dtype: str = "int8") -> str:
        self.tensors[name] = ProgramTensor(name, role, memory, shape, dtype)
        return name

    def constant(self, name: str, memory: Memory, array: np.ndarray) -> str:
        self.constants[name] = array.tobytes()
        return self.tensor(name, Role.CONSTANT, memory, array.shape, array.dtype.name)

    def micro_ops(self, name: str, dst: np.ndarray, src: np.ndarray, wgt: np.ndarray) -> str:
        return self.constant(name, Memory.UOP, encode_micro_ops(dst, src, wgt, self.config))

    def add(self, instruction: Instruction, tensor: str | None = None) -> int:
        self.instructions.append(instruction)
        self.addressed.append(tensor)
        return len(self.instructions) - 1

    def edit(self, index: int, **changes: object) -> None:
        self.instructions[index] = replace(self.instructions[index], **changes)

    def remove(self, index: int) -> None:
        del self.instructions[index], self.addressed[index]

    def insert(self, index: int, instruction: Instruction, tensor: str | None = None) -> None:
        self.instructions.insert(index, instruction)
        self.addressed.insert(index, tensor)

    def build(self) -> Program:
        words = encode_stream(self.instructions, self.config)
        names = list(self.tensors)
        return Program(
            name="test",
            config=self.config.name,
            features=self.features,
            instructions=words,
            tensors=tuple(self.tensors.values()),
            constants={names.index(name): data for name, data in self.constants.items()},
            relocations=tuple(
                Relocation(i, names.index(name)) for i, name in enumerate(self.addressed) if name is not None
            ),
            layers=(Layer("conv", 0, len(self.instructions)),),
            counters=count(words, self.config),
        )


@dataclass
class TiledConvolution(ProgramBuilder):
    """3x3 convolution, stride 1, padding 1: int8 (1, 2, 8, 8, 1, 16) -> the same, clip(sum >> 5, -127, 127).

    Four tiles of two rows alternate between two halves of INP and ACC: the next tile loads while this one is
    computed, the one before is stored meanwhile. `at` has the index of each kind of instruction, by tile.
    """

    seed: int = 0
    at: dict[str, list[int]] = field(default_factory=dict)

    BLOCKS = 2
    SIZE = 8
    ROWS = 2
    INP_HALF = 100
    ACC_HALF = 64
    SHIFT = 5

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        blocks, size = self.BLOCKS, self.SIZE
        self.weight = rng.integers(-128, 128, (blocks, blocks, 3, 3, 16, 16), np.int8)
        self.tensor("x", Role.INPUT, Memory.INP, (1, blocks, size, size, 1, 16))
        self.tensor("y", Role.OUTPUT, Memory.INP, (1, blocks, size, size, 1, 16))
        self.constant("weight", Memory.WGT, self.weight)
        self.micro_ops("micro_ops", *self._indices())
        self.per_half = len(self.constants["micro_ops"]) // 4 // 2
        tiles = size // self.ROWS
        self._record("load weight", Load(Memory.WGT, 0, 0, 1, 36, 36), "weight")
        self._record("load micro-ops", Load(Memory.UOP, 0, 0, 1, 2 * self.per_half, 2 * self.per_half), "micro_ops")
        for tile in range(tiles):
            self._load(tile)
            if tile:
                self._compute(tile - 1, tiles)
        self._compute(tiles - 1, tiles)
        self._record("drain", Load(Memory.UOP, 0, 0, 0, 0, 0, pop_next=True))
        self._record("finish", Finish(pop_next=True))

    def _indices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per half: (input block, tap row, tap column) outside, (output block, column) inside, then element updates."""
        width, height = self.SIZE + 2, self.ROWS + 2
        half, i, ky, kx, o, column = np.indices((2, self.BLOCKS, 3, 3, self.BLOCKS, self.SIZE)).reshape(6, -1)
        # The second half begins with what an ALU instruction walks in the first one: micro-op 0 of each half is 0.
        dst = half * self.ACC_HALF + o * self.ROWS * self.SIZE + column
        src = half * self.INP_HALF + (i * height + ky) * width + column + kx
        wgt = (o * self.BLOCKS + i) * 9 + ky * 3 + kx
        return dst, src, wgt

    def _record(self, what: str, instruction: Instruction, tensor: str | None = None) -> None:
        self.at.setdefault(what, []).append(self.add(instruction, tensor))

    def _load(self, tile: int) -> None:
        first, last = tile == 0, tile == self.SIZE // self.ROWS - 1
        height, width = self.ROWS + 2, self.SIZE + 2
        for block in range(self.BLOCKS):
            row = tile * self.ROWS - (not first)
            self._record(
                "load",
                Load(
                    Memory.INP,
                    (tile % 2) * self.INP_HALF + block * height * width,
                    (block * self.SIZE + row) * self.SIZE,
                    height - first - last,
                    self.SIZE,
                    self.SIZE,
                    int(first),
                    int(last),
                    1,
                    1,
                    pop_next=tile >= 2 and block == 0,
                    push_next=block == self.BLOCKS - 1,
                ),
                "x",
            )

    def _compute(self, tile: int, tiles: int) -> None:
        half = tile % 2
        begin = half * self.per_half
        end = begin + self.per_half
        walk = {"iter_out": 1, "iter_in": self.ROWS, "dst_factor_in": self.SIZE, "src_factor_in": self.SIZE}
        self._record("reset", Gemm(True, begin, begin + self.BLOCKS * self.SIZE, **walk, pop_next=tile >= 2))
        self._record(
            "gemm",
            Gemm(
                False, begin, end, **{**walk, "src_factor_in": self.SIZE + 2}, pop_prev=True, push_prev=tile + 2 < tiles
            ),
        )
        accumulators = self.BLOCKS * self.ROWS * self.SIZE
        if "alu micro-ops" not in self.tensors:
            zero = np.zeros(1, np.int64)
            self.micro_ops("alu micro-ops", np.array([0, self.ACC_HALF]), np.array([0, self.ACC_HALF]), zero.repeat(2))
            self._record("load alu micro-ops", Load(Memory.UOP, 2 * self.per_half, 0, 1, 2, 2), "alu micro-ops")
        where = {
            "uop_bgn": 2 * self.per_half + half,
            "uop_end": 2 * self.per_half + half + 1,
            "iter_out": 1,
            "iter_in": accumulators,
            "dst_factor_in": 1,
            "src_factor_in": 1,
        }
        self._record("shift", Alu(AluOpcode.SHR, True, self.SHIFT, **where))
        self._record("maximum", Alu(AluOpcode.MAX, True, -127, **where))
        self._record("minimum", Alu(AluOpcode.MIN, True, 127, **where, push_next=True))
        for block in range(self.BLOCKS):
            self._record(
                "store",
                Store(
                    half * self.ACC_HALF + block * self.ROWS * self.SIZE,
                    (block * self.SIZE + tile * self.ROWS) * self.SIZE,
                    self.ROWS,
                    self.SIZE,
                    self.SIZE,
                    pop_prev=block == 0,
                    push_prev=block == self.BLOCKS - 1,
                ),
                "y",
            )

    def expected(self, x: np.ndarray) -> np.ndarray:
        """The convolution of packed int8 x, computed straightforwardly in int64."""
        padded = np.pad(x[0, :, :, :, 0].astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = np.zeros((self.BLOCKS, self.SIZE, self.SIZE, 16), np.int64)
        for ky in range(3):
            for kx in range(3):
                window = padded[:, ky : ky + self.SIZE, kx : kx + self.SIZE]
                total += np.einsum("ihwc,oikc->ohwk", window, self.weight[:, :, ky, kx].astype(np.int64))
        return np.clip(total >> self.SHIFT, -127, 127).astype(np.int8)[None, :, :, :, None]
