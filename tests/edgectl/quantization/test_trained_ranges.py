"""What the statistics of batch normalisations let expect of channels that calibration has not shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgectl.graph import Model
from edgectl.operators.activation import Relu
from edgectl.operators.batch_norm import BatchNorm
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.equalization import equalized
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.trained_ranges import DEVIATIONS, with_trained_ranges
from tests.edgectl.quantization.networks import NetworkBuilder

SHAPE = (1, 16, 8, 8)


def _network() -> Model:
    """Convolution, batch normalisation, ReLU, convolution."""
    net = NetworkBuilder(SHAPE)
    x = net.batch_norm("norm", net.convolution("first", "data", (16, 16)), 16)
    return net.model(net.convolution("last", net.add("active", Relu(), x), (16, 8), 1))


def _observed(model: Model) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Ranges of channels, as observed and with those that statistics let expect."""
    observations = observe(fold_batch_norm(model), synthetic_images(None, SHAPE, 4))
    forms = observations, with_trained_ranges(model, observations)
    plain, found = ({name: seen.channels for name, seen in form.items()} for form in forms)
    for name, seen in forms[1].items():
        assert seen.largest == observations[name].largest
    return plain, found


def test_a_channel_may_go_as_far_as_its_statistics_let_expect() -> None:
    model = _network()
    model.parameters["norm.beta"][:3] = 1.0, -30.0, 0.0
    model.parameters["norm.gamma"][:3] = -2.0, 3.0, 0.0
    plain, found = _observed(model)
    assert DEVIATIONS == 5
    assert found["norm"][:3].tolist() == [11.0, max(45.0, plain["norm"][1]), plain["norm"][2]]
    assert found["active"][:3].tolist() == [11.0, plain["active"][1], plain["active"][2]]
    np.testing.assert_array_equal(found["data"], plain["data"])
    np.testing.assert_array_equal(found["last"], plain["last"])


def test_what_was_observed_counts_where_it_is_more() -> None:
    model = _network()
    model.parameters["norm.variance"][:] = 1e-4
    plain, found = _observed(model)
    np.testing.assert_array_equal(found["active"], plain["active"])


def test_a_fixed_gamma_counts_as_one() -> None:
    model = _network()
    nodes = [replace(n, operator=BatchNorm(fix_gamma=True)) if n.name == "norm" else n for n in model.nodes]
    model.parameters["norm.gamma"][:] = 100.0
    model.parameters["norm.beta"][:] = 20.0
    _, found = _observed(model.rebuilt(nodes, dict(model.parameters), model.outputs))
    assert found["active"].min() >= 25.0 and found["active"].max() < 100.0


def test_channels_that_calibration_does_not_show_are_not_made_loud() -> None:
    model = _network()
    model.parameters["norm.beta"][0] = -40.0
    model.parameters["norm.gamma"][0] = 10.0
    folded = fold_batch_norm(model)
    few = synthetic_images(None, SHAPE, 1) * 0.3
    seen = observe(folded, few)
    assert seen["active"].channels[0] == 0.0

    def size(model: Model) -> float:
        weight = model.producers()["norm"].inputs[1]
        return float(np.abs(model.parameters[weight][0]).max())

    louder = [size(equalized(folded, ranges)[0]) for ranges in (seen, with_trained_ranges(model, seen))]
    assert louder[1] < 0.5 * louder[0]
