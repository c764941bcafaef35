"""For which boards a wheel is: processor, Python, C library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

from edgectl.errors import UsageError

_OLDEST_GLIBC = 17
"""2.17, that of manylinux2014."""


@dataclass(frozen=True)
class Platform:
    """A processor as `uname -m` names it, versions of CPython and of the C library (glibc unless told)."""

    machine: str
    python: tuple[int, ...]
    libc: tuple[int, ...] = (2, 31)
    glibc: bool = True

    @classmethod
    def named(cls, text: str) -> Platform:
        """MACHINE-PYTHON, such as armv7l-3.10. Raises UsageError."""
        found = re.fullmatch(r"(\w+)-(3)\.(\d{1,2})", text)
        if not found:
            raise UsageError(f"{text!r} is not MACHINE-PYTHON; give armv7l-3.10, aarch64-3.12 or such")
        return cls(found[1], (int(found[2]), int(found[3])))

    def __str__(self) -> str:
        return f"{self.machine}-{'.'.join(map(str, self.python))}"

    @property
    def abi(self) -> str:
        return f"cp{''.join(map(str, self.python))}"

    @property
    def pip_platforms(self) -> tuple[str, ...]:
        """Platform tags, the most specific first."""
        if not self.glibc:
            return (f"linux_{self.machine}",)
        newest = self.libc[1] if len(self.libc) > 1 else _OLDEST_GLIBC
        dated = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        return (*dated, f"manylinux2014_{self.machine}", f"linux_{self.machine}")

    @property
    def tags(self) -> frozenset[Tag]:
        """What the name of a wheel that fits says."""
        platforms = self.pip_platforms
        return frozenset(
            (
                *cpython_tags(self.python, [self.abi], platforms),
                *compatible_tags(self.python, self.abi, platforms),
            )
        )

    @property
    def markers(self) -> Mapping[str, str]:
        """What conditions of requirements are evaluated with."""
        version = ".".join(map(str, self.python))
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }
