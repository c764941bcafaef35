"""The accuracy that the host measured of a model and recorded in its bundle's manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Accuracy:
    """Shares are 0..1. `agreement`: how many of `images` get the same answer in integers as in float; `low` to `high`
    is its 95 % confidence interval. Accuracies (top-1) are None where the images had no labels."""

    images: int
    agreement: float
    low: float
    high: float
    mean_cosine: float
    top1_float: float | None
    top1_integer: float | None
    date: str

    @staticmethod
    def of(document: Mapping[str, Any]) -> Accuracy | None:
        """What a manifest, or the description of a live model, says under "accuracy"; None where it says nothing, or
        nothing that makes sense."""
        entry: Any = document.get("accuracy")
        try:
            labelled = entry["top1_float"] is not None
            low, high = entry["interval"]
            found = Accuracy(
                int(entry["images"]),
                float(entry["agreement"]),
                float(low),
                float(high),
                float(entry["mean_cosine"]),
                float(entry["top1_float"]) if labelled else None,
                float(entry["top1_integer"]) if labelled else None,
                str(entry["date"])[:40],
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        shares = (found.agreement, found.low, found.high, found.top1_float or 0.0, found.top1_integer or 0.0)
        sound = found.images > 0 and math.isfinite(found.mean_cosine) and all(0 <= share <= 1 for share in shares)
        return found if sound else None

    def as_dict(self) -> dict[str, Any]:
        """As `of` reads it."""
        return {
            "images": self.images,
            "agreement": self.agreement,
            "interval": [self.low, self.high],
            "mean_cosine": self.mean_cosine,
            "top1_float": self.top1_float,
            "top1_integer": self.top1_integer,
            "date": self.date,
        }

    def in_words(self) -> str:
        """One line."""
        words = (
            f"{percent(self.agreement)} same answer as float on {self.images:,} images "
            f"(95 %: {100 * self.low:.2f} to {100 * self.high:.2f})"
        )
        if self.top1_float is not None and self.top1_integer is not None:
            words += f", top-1 {percent(self.top1_float)} float, {percent(self.top1_integer)} int8"
        return words


def percent(share: float) -> str:
    """0.9876 -> 98.76 %"""
    return f"{100 * share:.2f} %"
