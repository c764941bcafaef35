"""The wheels that go to a board: the agent's own, and of a folder or of the package index what it needs.

A board needs no network: everything is fetched here, for its processor and its Python. NumPy is never among it, the
distribution's is used.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from edgectl.errors import EdgectlError, UnreachableError, UsageError
from edgectl.files import cache_folder
from edgectl.provisioning.agent_wheel import ANNOUNCE, FILE_NAME, agent_wheel, requirements
from edgectl.provisioning.platform import Platform

INSTALLER = "pip>=23,<27"
"""Goes along, since Debian's Python has none."""
_OF_THE_SYSTEM = frozenset({"numpy"})
_DOWNLOAD_SECONDS = 300.0


@dataclass(frozen=True)
class Wheelhouse:
    """What is installed: `agent` and `needed` wheels by file name, by the `installer`; `notices` say what lacks."""

    agent: bytes
    needed: Mapping[str, bytes]
    installer: tuple[str, bytes]
    platform: Platform
    notices: tuple[str, ...] = field(default=())

    @property
    def wheels(self) -> dict[str, bytes]:
        """The wheels to install by their names."""
        return {FILE_NAME: self.agent, **self.needed}

    @property
    def announces(self) -> bool:
        """Whether the agent will be able to say on the network that it is there."""
        return any(name.startswith("zeroconf-") for name in self.needed)

    @property
    def digest(self) -> str:
        """The installation's identity: 12 hexadecimal digits of its contents and of the Python that it is for."""
        text = [str(self.platform)]
        text += [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(self.wheels.items())]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]

    @property
    def nbytes(self) -> int:
        return sum(map(len, (*self.wheels.values(), self.installer[1])))


def default_folder(platform: Platform) -> Path:
    """Where wheels for a platform are kept from one board to the next."""
    libc = ".".join(map(str, platform.libc)) if platform.glibc else "other"
    return cache_folder() / "wheelhouses" / f"{platform}-{libc}"


def wheelhouse(platform: Platform, folder: Path | None = None) -> Wheelhouse:
    """The wheels for a platform: of `folder` and without any network, else of the cache, which is filled as needed.

    Raises UsageError (the folder lacks some), UnreachableError (no package index in reach).
    """
    place = folder or default_folder(platform)
    notices: tuple[str, ...] = ()
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}; prepare it: edgectl provision --fetch {folder} --for {platform}"
        )
    if folder is None:
        notices = fetch(platform, place)
    found, missing = _closure(place, platform, [*requirements(), INSTALLER])
    if missing:
        raise UsageError(
            f"{place} has no wheel for {platform} of {', '.join(map(str, missing))}; fetch it where a network is: "
            f"edgectl provision --fetch {place} --for {platform}"
        )
    announcing, lacking = _closure(place, platform, requirements(ANNOUNCE))
    if lacking and not notices:
        notices = (_unannounced(platform, f"{place} has no wheel of {', '.join(map(str, lacking))}"),)
    chosen = found if lacking else {**found, **announcing}
    installer = chosen.pop("pip")
    needed = {path.name: path.read_bytes() for path in chosen.values()}
    return Wheelhouse(agent_wheel(), needed, (installer.name, installer.read_bytes()), platform, notices)


def fetch(platform: Platform, folder: Path) -> tuple[str, ...]:
    """Fill `folder` with the wheels that a platform needs and that it lacks; what could not be had and need not be.

    Raises UnreachableError, UsageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _complete(folder, platform, [*requirements(), INSTALLER])
    try:
        _complete(folder, platform, requirements(ANNOUNCE))
    except UnreachableError as error:
        return (_unannounced(platform, str(error)),)
    return ()


def _unannounced(platform: Platform, why: str) -> str:
    return f"the agent will not be found by mDNS, `edgectl boards add` reaches it all the same: {why}"


def _complete(folder: Path, platform: Platform, wanted: list[str]) -> None:
    """Download what is missing, then what that needs, and so on."""
    tried: frozenset[str] = frozenset()
    while True:
        _, missing = _closure(folder, platform, wanted)
        names = frozenset(map(str, missing))
        if not names:
            return
        if names <= tried:
            raise UnreachableError(f"the package index has no wheel of {', '.join(sorted(names))} for {platform}")
        tried |= names
        _download(folder, platform, names)


def _download(folder: Path, platform: Platform, names: Iterable[str]) -> None:
    platforms = [part for name in platform.pip_platforms for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), *platforms, "--implementation", "cp"]
    command += ["--python-version", ".".join(map(str, platform.python)), "--abi", platform.abi, "--abi", "abi3"]
    command += ["--abi", "none", "--", *sorted(names)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"pip could not fetch {', '.join(sorted(names))}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
        said = (lines or done.stderr.splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
        raise UnreachableError(
            f"pip could not fetch {', '.join(sorted(names))} for {platform}: {said}; where this machine has no "
            "network, fetch the wheels on another one: edgectl provision --fetch FOLDER --for "
            f"{platform}, and give --wheelhouse FOLDER here"
        )


def _closure(folder: Path, platform: Platform, wanted: list[str]) -> tuple[dict[str, Path], list[Requirement]]:
    """The newest fitting wheels of `folder` for what is wanted and what that needs in turn; and what it lacks."""
    chosen: dict[str, Path] = {}
    missing: list[Requirement] = []
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate(dict(platform.markers))
        if name in chosen or name in _OF_THE_SYSTEM or not applies:
            continue
        wheel = _best(folder, platform, requirement)
        if wheel is None:
            missing.append(requirement)
            continue
        chosen[name] = wheel
        waiting += _requirements_of(wheel)
    return chosen, missing


def _best(folder: Path, platform: Platform, requirement: Requirement) -> Path | None:
    candidates: list[tuple[Version, str, Path]] = []
    for path in folder.glob("*.whl"):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        fits = name == canonicalize_name(requirement.name) and requirement.specifier.contains(version)
        if fits and tags & platform.tags:
            candidates.append((version, path.name, path))
    return max(candidates, default=(None, None, None))[2]


def _requirements_of(wheel: Path) -> list[Requirement]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (
                name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
            )
            entries = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
        return [Requirement(entry) for entry in entries]
    except (OSError, ValueError, zipfile.BadZipFile, InvalidRequirement) as error:
        raise EdgectlError(f"{wheel} is damaged: {error}; delete it, and run the same command again") from error
