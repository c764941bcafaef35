"""Who an agent is, whatever its address and name: a random identity, made once and kept in the state directory."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from edge_agent import durable
from edge_agent.errors import AgentError

_IDENTITY = re.compile(r"[0-9a-f]{32}")


def identity(directory: Path) -> str:
    """The identity kept in a state directory, 32 hexadecimal digits; a new one where there is none or it is damaged.

    Raises AgentError where it cannot be kept.
    """
    file = directory / "identity"
    try:
        kept = file.read_text().strip() if file.exists() else ""
    except ValueError:
        kept = ""
    except OSError as error:
        raise AgentError(f"the agent's identity {file} cannot be read: {error.strerror}") from error
    if _IDENTITY.fullmatch(kept):
        return kept
    fresh = secrets.token_hex(16)
    try:
        durable.write(file, f"{fresh}\n".encode())
    except OSError as error:
        raise AgentError(f"the agent's identity {file} cannot be written: {error.strerror}") from error
    return fresh
