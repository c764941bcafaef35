# SPDX-License-Identifier: Apache-2.0
"""Make the photograph that ships, host/edgectl/data/images/cat.jpg, from scikit-image's `chelsea` (CC0).

Needs scikit-image.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

TARGET = Path(__file__).parent.parent / "host" / "edgectl" / "data" / "images" / "cat.jpg"


def main() -> None:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(data.chelsea()).save(TARGET, quality=90, optimize=True)


if __name__ == "__main__":
    main()
