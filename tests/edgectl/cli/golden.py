"""Golden files of what people see: numbers, digests and paths are masked. EDGECTL_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def masked(text: str) -> str:
    """`text` without what differs from run to run or machine to machine."""
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "DIGEST", text)
    text = re.sub(r"(?<![\w.:/-])/[\w./-]*/", "PATH/", text)
    text = re.sub(r"\bx86_64\w*|\baarch64\w*", "PROCESSOR", text)
    text = re.sub(r"(?<!\w)\d+(,\d{3})*(\.\d+)*", "N", text)
    # Columns are as wide as their numbers.
    return re.sub(r" {2,}", "  ", re.sub(r" +$", "", text, flags=re.MULTILINE))


def check_golden(name: str, text: str) -> None:
    """Compare with golden/NAME.txt."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("EDGECTL_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(masked(text), encoding="utf-8")
    assert masked(text) == path.read_text(encoding="utf-8")
