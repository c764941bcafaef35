"""USER@HOST[:PORT]: whom and where SSH connects to."""

from __future__ import annotations

import re
from typing import NamedTuple

from edgectl.boards.client import Address
from edgectl.errors import UsageError

SCHEME = "ssh://"
SSH_PORT = 22
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")


class SshTarget(NamedTuple):
    """An account on a host."""

    user: str
    host: str
    port: int = SSH_PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != SSH_PORT else "")

    @classmethod
    def parse(cls, text: str) -> SshTarget:
        """USER@HOST[:PORT], with or without ssh:// before it. Raises UsageError."""
        user, separator, place = text.removeprefix(SCHEME).rpartition("@")
        bare = place.endswith("]") or (place.count(":") != 1 and not place.startswith("["))
        if not separator or not _USER.fullmatch(user) or (bare and ":" in place and not place.startswith("[")):
            raise UsageError(f"{text!r} is not USER@HOST[:PORT]")
        try:
            address = Address.parse(f"{place}:{SSH_PORT}" if bare else place)
        except UsageError:
            raise UsageError(f"{text!r} is not USER@HOST[:PORT]") from None
        return cls(user, *address)
