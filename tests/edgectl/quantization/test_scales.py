from __future__ import annotations

import numpy as np
import pytest

from edgectl.quantization.scales import best_scale, power_of_two_ratio, quantized


def test_a_uniform_range_gets_the_scale_that_just_holds_it() -> None:
    values = np.linspace(-1.2, 1.2, 1001)
    assert best_scale(values, 1.2) == 2.0**-6


def test_outliers_are_clipped_where_that_loses_less() -> None:
    values = np.concatenate([np.linspace(-0.5, 0.5, 100_000), [1.05]])
    assert best_scale(values, 1.05) == 2.0**-7 / 2


def test_the_unit_carries_an_odd_mantissa() -> None:
    assert best_scale(np.linspace(0, 1, 100), 1.0, 0.3) == pytest.approx(0.3 / 32)


def test_zeros_have_a_scale() -> None:
    assert best_scale(np.zeros(4), 0.0, 0.25) == 0.25


@pytest.mark.parametrize(("a", "b", "ratio"), [(1.0, 1.0, 0), (0.75, 0.1875, 2), (2.0**-9, 1.0, -9), (3.0, 1.0, None)])
def test_power_of_two_ratio(a: float, b: float, ratio: int | None) -> None:
    assert power_of_two_ratio(a, b) == ratio


def test_quantized_clips_symmetrically() -> None:
    assert quantized(np.array([-9.0, -0.5, 0.24, 9.0]), 0.0625).tolist() == [-127, -8, 4, 127]
