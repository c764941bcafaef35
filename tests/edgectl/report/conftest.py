"""The figures of a small network, made once."""

from __future__ import annotations

import pytest

from edge_agent.bundle import Bundle, read_bundle
from edgectl.building import build
from edgectl.report.figures import Figures, figures_of
from tests.edgectl.quantization.networks import NETWORKS


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """Residual blocks in one program; the first convolution on the CPU."""
    return read_bundle(build(NETWORKS["residual"](), offload="reference").data)


@pytest.fixture(scope="session")
def figures(bundle: Bundle) -> Figures:
    return figures_of(bundle)
