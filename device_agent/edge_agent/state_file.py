"""What a running agent says about itself in a file, so that whoever started it, or comes later, finds it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_agent import durable


@dataclass(frozen=True)
class AgentState:
    """A running agent. A process is known by its id and its start time together: ids are used again.

    HTTP listens on `http_host`, RPC on `host`; agents before this entry did both on `host`, which reading assumes.
    """

    pid: int
    start_ticks: int
    host: str
    rpc_port: int
    http_port: int
    board: str
    key: str
    http_host: str

    def write(self, path: Path) -> None:
        """Durably, readable by its owner alone: it holds the key. Raises OSError."""
        durable.write(path, json.dumps(asdict(self), indent=1).encode(), mode=0o600)

    @classmethod
    def read(cls, path: Path) -> AgentState | None:
        """None where there is no such file, or it does not parse."""
        try:
            document = json.loads(path.read_text())
            document = {"http_host": document["host"], **document}
            kinds = {
                "pid": int,
                "start_ticks": int,
                "host": str,
                "rpc_port": int,
                "http_port": int,
                "board": str,
                "key": str,
                "http_host": str,
            }
            if set(document) != set(kinds) or any(type(document[name]) is not kind for name, kind in kinds.items()):
                return None
            return cls(**document)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def is_running(self) -> bool:
        """Whether the process is there: the same one, and not a zombie."""
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where it does not run (proc(5), stat field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def this_process() -> tuple[int, int]:
    """This process's id and start time."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    return os.getpid(), ticks
