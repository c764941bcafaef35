"""Which wheels fit which board."""

from __future__ import annotations

import pytest
from packaging.utils import parse_wheel_filename

from edgectl.errors import UsageError
from edgectl.provisioning.platform import Platform

PYNQ = Platform("armv7l", (3, 10), (2, 35))


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-cp310-cp310-manylinux2014_armv7l.manylinux_2_17_armv7l.whl", True),
        ("a-1-cp310-cp310-manylinux_2_31_armv7l.whl", True),
        ("a-1-cp37-abi3-manylinux_2_31_armv7l.whl", True),
        ("a-1-cp310-cp310-manylinux_2_36_armv7l.whl", False),
        ("a-1-cp311-cp311-manylinux_2_31_armv7l.whl", False),
        ("a-1-cp311-abi3-manylinux_2_31_armv7l.whl", False),
        ("a-1-cp310-cp310-manylinux2014_aarch64.whl", False),
        ("a-1-cp310-cp310-musllinux_1_2_armv7l.whl", False),
    ],
)
def test_a_wheel_fits_its_board(wheel: str, fits: bool) -> None:
    assert bool(parse_wheel_filename(wheel)[3] & PYNQ.tags) == fits


def test_without_glibc_only_pure_wheels_fit() -> None:
    tags = Platform("armv7l", (3, 12), (), glibc=False).tags
    assert parse_wheel_filename("a-1-py3-none-any.whl")[3] & tags
    assert not parse_wheel_filename("a-1-cp312-cp312-manylinux2014_armv7l.whl")[3] & tags


def test_a_platform_by_its_name() -> None:
    assert str(Platform.named("armv7l-3.10")) == "armv7l-3.10"
    assert Platform.named("aarch64-3.12").python == (3, 12)
    for wrong in ("armv7l", "3.10", "armv7l-2.7", "armv7l-3.10.2", "arm v7-3.10", ""):
        with pytest.raises(UsageError, match="is not MACHINE-PYTHON"):
            Platform.named(wrong)
