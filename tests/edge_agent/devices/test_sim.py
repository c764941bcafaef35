"""The simulated accelerator keeps the contract of devices/base.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.devices import accelerator_kinds, open_accelerator
from edge_agent.devices.base import Accelerator, AcceleratorInfo
from edge_agent.errors import IncompatibleError, InputError, ProgramError

from ..vta.builder import TiledConvolution


@pytest.fixture
def accelerator() -> Accelerator:
    return open_accelerator("sim", profile("sim"))


def test_the_registry_is_the_folder() -> None:
    assert "sim" in accelerator_kinds() and "base" not in accelerator_kinds()
    for kind in ("abacus", "base", "../sim", ""):
        with pytest.raises(IncompatibleError, match=r"drives no accelerator of kind .*; it drives .*sim"):
            open_accelerator(kind, profile("sim"))


def test_it_describes_itself(accelerator: Accelerator) -> None:
    assert accelerator.describe() == AcceleratorInfo(
        "sim", "1x16_i8w8a32_15_15_18_17", frozenset({"program_across_layers"}), 100_000_000
    )


def test_programs_share_it(accelerator: Accelerator) -> None:
    """Two loaded programs run in turn, each with its own weights; statistics have the static counters."""
    builders = [TiledConvolution(seed=seed) for seed in (1, 2)]
    loaded = [accelerator.load(builder.build()) for builder in builders]
    x = np.random.default_rng(0).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)
    y = np.empty_like(x)
    for _ in range(2):
        for builder, program in zip(builders, loaded, strict=True):
            stats = accelerator.run(program, {"x": x}, {"y": y})
            np.testing.assert_array_equal(y, builder.expected(x))
            assert stats.counters.gemm_counter == 8 * 8 * 2 * 2 * 9
            assert stats.counters.out_store_nbytes == y.nbytes
            assert stats.seconds > 0
        accelerator.reset()


def test_an_unloaded_program_does_not_run(accelerator: Accelerator) -> None:
    loaded = accelerator.load(TiledConvolution().build())
    accelerator.unload(loaded)
    accelerator.unload(loaded)
    y = np.empty((1, 2, 8, 8, 1, 16), np.int8)
    with pytest.raises(InputError, match="'test' is not loaded"):
        accelerator.run(loaded, {"x": y}, {"y": y})


def test_programs_that_do_not_fit_are_refused(accelerator: Accelerator) -> None:
    program = TiledConvolution().build()
    with pytest.raises(IncompatibleError, match="4x8_i8w8a32_15_16_16_18, this accelerator has 1x16"):
        accelerator.load(replace(program, config="4x8_i8w8a32_15_16_16_18"))
    with pytest.raises(IncompatibleError, match="needs alu_mul"):
        accelerator.load(replace(program, features=frozenset({"alu_mul"})))
    broken = TiledConvolution()
    broken.edit(broken.at["shift"][0], imm=16)
    with pytest.raises(ProgramError, match="shift range"):
        accelerator.load(broken.build())
