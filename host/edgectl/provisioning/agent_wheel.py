"""The agent as a wheel, packed from the packages that this controller itself runs, installed or not."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from edge_agent.version import VERSION
from edgectl.errors import UsageError

DISTRIBUTION = "edgectl"
PACKAGES = ("edge_agent", "edge_bitstreams")
COMMANDS = {"edge-agent": "edge_agent.agent:main", "edge-fpga": "edge_agent.fpga.helper:main"}
FILE_NAME = f"{DISTRIBUTION}-{VERSION}-py3-none-any.whl"
ANNOUNCE = "announce"
_SUFFIXES_LEFT_OUT = (".pyc", ".pyo")


def requirements(extra: str = "") -> list[str]:
    """What the agent needs beside this distribution, or with an `extra` what that adds. Raises UsageError."""
    try:
        entries = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise UsageError("edgectl is not installed, only its sources are there: pip install -e '.[host]'") from None
    suffix = f'extra == "{extra}"'
    split = (entry.replace("'", '"').partition(";") for entry in entries)
    return [
        name.strip() for name, _, marker in split if (marker.strip() == suffix if extra else "extra ==" not in marker)
    ]


def agent_wheel() -> bytes:
    """The wheel: the same bytes from the same files. Raises UsageError."""
    information = f"{DISTRIBUTION}-{VERSION}.dist-info"
    wants = [f"Requires-Dist: {entry}\n" for entry in requirements()]
    members = {name: path.read_bytes() for package in PACKAGES for name, path in _files(package)}
    members[f"{information}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {VERSION}\nSummary: The agent of edgectl.\n"
        f"License: Apache-2.0\nRequires-Python: >=3.10\n{''.join(wants)}"
    ).encode()
    members[f"{information}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: edgectl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    commands = "".join(f"{name} = {function}\n" for name, function in COMMANDS.items())
    members[f"{information}/entry_points.txt"] = f"[console_scripts]\n{commands}".encode()
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in members.items())
    members[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)  # dated 1980, so that the archive does not depend on when it is made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 6)
    return buffer.getvalue()


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """A package's files by their names in a wheel, sorted."""
    folder = Path(str(import_module(package).__file__)).parent
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in _SUFFIXES_LEFT_OUT:
            yield f"{package}/{path.relative_to(folder).as_posix()}", path


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
