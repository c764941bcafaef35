"""Small wheels for tests."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def make_wheel(folder: Path, name: str, needs: Sequence[str] = ()) -> Path:
    """An empty wheel with a file name such as `a-1.0-py3-none-any.whl`."""
    folder.mkdir(parents=True, exist_ok=True)
    distribution, version = name.split("-")[:2]
    entries = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(
            f"{distribution}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{entries}",
        )
    return folder / name


def repacked(folder: Path, distribution: str) -> Path:
    """An installed distribution as a wheel again, so that tests need no network."""
    found = metadata.distribution(distribution)
    tag = next(line for line in str(found.read_text("WHEEL")).splitlines() if line.startswith("Tag:")).split()[1]
    name = f"{distribution.replace('-', '_')}-{found.version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        members = [path for path in found.files or () if path.suffix != ".pyc" and ".." not in path.parts]
        members = [path for path in members if not (path.parent.suffix == ".dist-info" and path.name in left_out)]
        for path in members:
            archive.writestr(str(path), path.read_binary())
        (information,) = {path.parts[0] for path in members if path.parts[0].endswith(".dist-info")}
        archive.writestr(
            f"{information}/RECORD", "".join(f"{path},,\n" for path in (*members, f"{information}/RECORD"))
        )
    return folder / name
