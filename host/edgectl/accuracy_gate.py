"""What is measured of a model before it is compiled, recorded in its bundle, and required of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from edge_agent.accuracy import Accuracy, percent
from edgectl.accuracy import CONFIDENCE, Progress, measure_agreement
from edgectl.build_cache import content_digest
from edgectl.datasets import Dataset
from edgectl.errors import UsageError, VerificationError
from edgectl.graph import Model
from edgectl.layer_errors import layer_errors

WORST_LAYERS = 5
"""Layers that a record names."""


def measured(
    float_model: Model, integer_model: Model, data: Dataset, progress: Progress | None = None
) -> dict[str, Any]:
    """The manifest's entry `accuracy` (docs/bundle-format.md): both models on all images of `data`.

    Raises UsageError where the data does not fit the model.
    """
    found = measure_agreement(float_model, integer_model, data, progress)
    layers = layer_errors(float_model, integer_model, data.images)[:WORST_LAYERS]
    return {
        "images": found.images,
        "agreement": found.agreement.value,
        "interval": list(found.agreement.interval),
        "confidence": CONFIDENCE,
        "top1_float": found.float.top1.value if found.float.top1 else None,
        "top1_integer": found.integer.top1.value if found.integer.top1 else None,
        "mean_cosine": found.integer.mean_cosine,
        "worst_cosine": found.integer.worst_cosine,
        "layers": [error.as_dict() for error in layers],
        "data_sha256": content_digest(data),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def check_options(minimum: float | None, has_data: bool) -> None:
    """Raise UsageError where `minimum` is no share, or there is nothing to measure it on."""
    if minimum is None:
        return
    if not 0 <= minimum <= 1:
        raise UsageError(f"--min-agreement {minimum:g} must be 0 to 1, such as 0.98 for 98 % of the images")
    if not has_data:
        raise UsageError(
            f"--min-agreement {minimum:g} needs images to measure on: --data FILE.npz or a folder of photographs"
        )


def enough(manifest: Mapping[str, Any], minimum: float | None) -> bool:
    """Whether a model with this manifest was measured to keep at least `minimum` of float's answers."""
    accuracy = Accuracy.of(manifest)
    return minimum is None or (accuracy is not None and accuracy.agreement >= minimum)


def remarks(manifest: Mapping[str, Any], minimum: float | None) -> tuple[str, ...]:
    """What `require` remarks, and which layers are in floating point for the sake of `minimum`. Raises as `require`."""
    remark = require(manifest, minimum)
    entry = manifest.get("accuracy") or {}
    in_float = entry.get("in_float", {})
    found = (
        f"{len(in_float)} layers are in floating point on the CPU, since in integers alone the model gives "
        f"{percent(entry['agreement_all_integer'])} of float's answers: {', '.join(in_float.values())}"
        if in_float
        else ""
    )
    return tuple(filter(None, (found, remark)))


def require(manifest: Mapping[str, Any], minimum: float | None) -> str:
    """Raise VerificationError, with what was measured, where a model with this manifest (its `accuracy` and `model` are
    read) keeps fewer of float's answers than `minimum`. Returns a remark where it does not, but might: or nothing."""
    if minimum is None:
        return ""
    model = manifest["model"]
    source = model.get("source", model["name"])
    accuracy = Accuracy.of(manifest)
    if accuracy is None:
        raise VerificationError(
            f"--min-agreement {minimum:g}: the accuracy of {model['name']} was not measured; measure and record it "
            f"with `edgectl compile {source} --data FILE.npz`"
        )
    if accuracy.agreement < minimum:
        raise VerificationError(_refusal(manifest["accuracy"], accuracy, minimum, source, model))
    if accuracy.low < minimum:
        return (
            f"{percent(accuracy.agreement)} on {accuracy.images:,} images passes --min-agreement {minimum:g}, but the "
            f"95 % interval begins at {percent(accuracy.low)}; more images would tell"
        )
    return ""


def _refusal(
    entry: Mapping[str, Any], accuracy: Accuracy, minimum: float, source: str, model: Mapping[str, Any]
) -> str:
    lines = [
        f"{model['name']} in int8 gives {percent(accuracy.agreement)} of float's answers,"
        f" --min-agreement {minimum:g} asks for {percent(minimum)}: not deployed",
        f"  measured on {accuracy.images:,} images, 95 % interval {100 * accuracy.low:.2f} to {percent(accuracy.high)}",
    ]
    if accuracy.top1_float is not None and accuracy.top1_integer is not None:
        lines.append(f"  top-1 {percent(accuracy.top1_float)} float, {percent(accuracy.top1_integer)} int8")
    lines.append(f"  mean cosine of outputs {accuracy.mean_cosine:.5f}")
    if accuracy.high >= minimum:
        lines.append("  the interval includes what was asked for: more images would tell for sure")
    if needed := entry.get("mixed"):
        lines.append(
            f"  {needed['layers']} of {needed['of']} layers, {percent(needed['share'])} of all multiplications, would "
            "have to run in floating point on the CPU, more than half: that is no network for VTA"
            if needed["suffices"]
            else f"  not even with all {needed['of']} layers in floating point on the CPU would it give as many"
        )
    lines.append("layers with the lowest signal to quantization noise (SQNR), so far and alone:")
    layers = entry.get("layers", ())
    width = max((len(layer["layer"]) for layer in layers), default=0)
    lines += [
        f"  {layer['layer']:<{width}}  {decibels(layer['sqnr_db'])}  {decibels(layer['own_sqnr_db'])}"
        for layer in layers
    ]
    calibrated = model.get("calibrated_on", "synthetic images")
    better = "some dozens of real images" if calibrated == "synthetic images" else "more images, or more typical ones"
    lines += [
        f"it was calibrated on {calibrated}; try",
        f"  --calibration DIR|FILE.npz with {better}",
        f"  edgectl evaluate {source} --data FILE.npz --layers 100",
        "  a lower --min-agreement",
    ]
    return "\n".join(lines)


def decibels(value: float | None) -> str:
    """For people, seven columns wide; None is what JSON has for no error."""
    return "  exact" if value is None or math.isinf(value) else f"{value:4.1f} dB"
