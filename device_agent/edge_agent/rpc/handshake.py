"""The opening of a TVM RPC connection: a magic number and a key from each side.

Client: i32 magic, i32 length, `client:KEY`, optionally followed by ` -timeout=SECONDS`. Server: i32 magic, or magic + 2
where no key matches; then i32 length and `server:KEY`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.errors import IncompatibleError, InputError, ProtocolError
from edge_agent.rpc.channel import Channel

MAGIC = 0xFF271
MISMATCH = MAGIC + 2
MAXIMUM_KEY_BYTES = 512
HEADER = struct.Struct("<ii")


@dataclass(frozen=True)
class Greeting:
    """What a client asks for: the key it presents, and after how many seconds its session shall end."""

    key: str
    session_seconds: float = math.inf


def greeting_length(header: bytes) -> int:
    """The bytes that follow the client's header. Raises ProtocolError where it is not one."""
    magic, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise ProtocolError(f"the peer's magic number is {magic:#x}, TVM's RPC begins with {MAGIC:#x}")
    if not 0 <= length <= MAXIMUM_KEY_BYTES:
        raise ProtocolError(f"the peer's key has {length} bytes, at most {MAXIMUM_KEY_BYTES} are allowed")
    return int(length)


def parse_greeting(body: bytes) -> Greeting:
    """Parse `client:KEY [-timeout=SECONDS]`. Raises ProtocolError."""
    try:
        words = body.decode().split(" ")
        key = words[0]
        if not key.startswith("client:"):
            raise ValueError(f"'{key[:16]}' is not a client's key")
        seconds = [float(word[len("-timeout=") :]) for word in words[1:] if word.startswith("-timeout=")]
        if any(not second > 0 for second in seconds):
            raise ValueError(f"a session of {seconds[0]} seconds cannot be")
    except ValueError as error:
        raise ProtocolError(f"the peer's greeting does not parse: {error}") from error
    return Greeting(key[len("client:") :], seconds[0] if seconds else math.inf)


def matching_key(presented: str, accepted: Iterable[str]) -> str | None:
    """The accepted key that equals the presented one, compared in constant time."""
    found = None
    for key in accepted:
        if hmac.compare_digest(key.encode(), presented.encode()):
            found = key
    return found


def proof(key: str, challenge: str) -> str:
    """What only an agent with this key answers to a challenge. Raises InputError for a challenge of another length."""
    if not 16 <= len(challenge) <= 64:
        raise InputError(f"a challenge has 16 to 64 characters, not {len(challenge)}")
    return hmac.new(key.encode(), f"edge-agent {challenge}".encode(), hashlib.sha256).hexdigest()


def accepted(key_type: str) -> bytes:
    """The server's answer to a matching key: its key's type, never the secret part."""
    text = f"server:{key_type}".encode()
    return HEADER.pack(MAGIC, len(text)) + text


def refused() -> bytes:
    """The server's answer to a key that does not match."""
    return struct.pack("<i", MISMATCH)


def greet(channel: Channel, key: str, deadline: float) -> str:
    """The client's side. Returns the server's key.

    Raises IncompatibleError where the key does not match or the peer does not speak TVM's RPC.
    """
    text = f"client:{key}".encode()
    channel.send_bytes(HEADER.pack(MAGIC, len(text)) + text, deadline)
    (code,) = struct.unpack("<i", channel.receive_exactly(4, deadline))
    if code == MISMATCH:
        raise IncompatibleError("the board refuses the key; use the key with which its agent was started")
    if code != MAGIC:
        raise IncompatibleError(
            f"the peer answers {code:#x} where TVM's RPC answers {MAGIC:#x}; is this an edge-agent's RPC port?"
        )
    (length,) = struct.unpack("<i", channel.receive_exactly(4, deadline))
    if not 0 <= length <= MAXIMUM_KEY_BYTES:
        raise ProtocolError(f"the peer's key has {length} bytes, at most {MAXIMUM_KEY_BYTES} are allowed")
    return bytes(channel.receive_exactly(length, deadline)).decode(errors="replace")
