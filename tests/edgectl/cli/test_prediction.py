"""The one line on what is predicted."""

from __future__ import annotations

from typing import Any

from edgectl.cli.report import prediction


def manifest(batch: int, **predicted: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [batch, 3, 8, 8], "dtype": "float32"}], "predicted": predicted}


WHOLE = {
    "vta_seconds": 0.0860,
    "cpu_seconds": 0.00521,
    "overhead_seconds": 0.0009,
    "total_seconds": 0.09211,
    "processor": "pynq",
}


def test_the_whole_inference() -> None:
    expected = "predicted on pynq: 92.1 ms per sample (VTA 86.0 ms, CPU 5.21 ms, calls 0.90 ms)"
    assert prediction(manifest(1, **WHOLE)) == expected


def test_each_sample_of_a_batch() -> None:
    expected = "predicted on pynq: 46.1 ms per sample (VTA 43.0 ms, CPU 2.60 ms, calls 0.45 ms)"
    assert prediction(manifest(2, **WHOLE)) == expected


def test_a_bundle_of_an_older_edgectl() -> None:
    assert prediction(manifest(1, vta_seconds=0.086)) == "predicted of VTA alone: 86.0 ms per sample"
