"""The functions of the edge.* family: what the controller calls. Their version is CONTROL_PROTOCOL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edge_agent.errors import IncompatibleError, InputError
from edge_agent.rpc import arrays, handshake
from edge_agent.rpc.codec import DataType, Device, Pointer, Tensor
from edge_agent.rpc.evaluator import MAXIMUM_CALLS
from edge_agent.rpc.functions import exported
from edge_agent.version import CONTROL_PROTOCOL, VERSION

if TYPE_CHECKING:
    from edge_agent.fpga_service import FpgaService
    from edge_agent.rpc.session import Session

MAXIMUM_RUNS = min(100_000, MAXIMUM_CALLS)


@exported("edge.protocol", "Versions as JSON: `protocol` of these functions, `agent`, and the `board`'s name.")
def protocol(session: Session) -> str:
    return json.dumps({"protocol": CONTROL_PROTOCOL, "agent": VERSION, "board": session.endpoint.board})


@exported("edge.status", "The agent as JSON: board, versions, what is live, the last inference, ports, uptime.")
def status(session: Session) -> str:
    return json.dumps(session.endpoint.status())


@exported("edge.echo", "The argument itself; a tensor comes back as a new one. For tests of a connection.")
def echo(
    session: Session,
    value: int | bool | float | str | bytes | DataType | Device | Pointer | Tensor | None,
) -> int | bool | float | str | bytes | DataType | Device | Pointer | Tensor | None:
    return session.keep_array(session.memory.array(value)) if isinstance(value, Tensor) else value


@exported(
    "edge.upload.begin",
    "Begin or resume the upload of a bundle of so many bytes with this SHA-256; returns how many "
    "bytes the agent already has (all, where it has that bundle).",
)
def upload_begin(session: Session, nbytes: int, sha256: str) -> int:
    return session.endpoint.uploads.begin(nbytes, sha256)


@exported(
    "edge.upload.chunk",
    "Append bytes at an offset to an upload; returns how many bytes the agent has now, where the next chunk begins.",
)
def upload_chunk(session: Session, sha256: str, offset: int, data: bytes) -> int:
    return session.endpoint.uploads.chunk(sha256, offset, data)


@exported("edge.upload.commit", "End an upload: verify the whole file and keep it; returns the bundle's digest.")
def upload_commit(session: Session, sha256: str) -> str:
    return session.endpoint.uploads.commit(sha256)


@exported(
    "edge.activate",
    "Load an uploaded bundle, self-test it and make it live; the previous one stays live where that "
    "fails. Returns the model as JSON with `load_seconds` and `self_test_seconds`.",
)
def activate(session: Session, digest: str) -> str:
    with session.board_for_call():
        return json.dumps(session.endpoint.service.activate(digest).as_dict())


@exported(
    "edge.infer",
    "Infer with the live model. Takes and returns named arrays (see Arrays); the reply's header has "
    "`seconds`, `vta_seconds` and `counters`.",
)
def infer(session: Session, request: bytes) -> bytes:
    inputs, _ = arrays.unpack(request)
    session.check_lease()
    inference = session.endpoint.service.infer(inputs, session.seconds_left())
    header = {
        "seconds": inference.seconds,
        "vta_seconds": inference.vta_seconds,
        "counters": inference.counters.as_dict(),
    }
    return arrays.pack(inference.outputs, header)


@exported(
    "edge.bench",
    "Time the live model: `repeat` means over `number` inferences each, after one to warm up; with no "
    "request bytes, on zeros. Returns JSON: `means`, and per run `seconds` and `vta_seconds`; `counters`.",
)
def bench(session: Session, number: int, repeat: int, request: bytes = b"") -> str:
    if not (number >= 1 and repeat >= 1 and number * repeat <= MAXIMUM_RUNS):
        raise InputError(f"number={number} and repeat={repeat} must be positive, their product at most {MAXIMUM_RUNS}")
    inputs = arrays.unpack(request)[0] if request else None
    with session.board_for_call():
        return json.dumps(session.endpoint.service.bench(inputs, number, repeat, session.check_alive).as_dict())


@exported(
    "edge.manifest",
    "The live model's manifest as JSON: what it was compiled from and for, its inputs, preprocessing and labels.",
)
def manifest(session: Session) -> str:
    return json.dumps(session.endpoint.service.manifest())


def _fpga(session: Session) -> FpgaService:
    if session.endpoint.fpga is None:
        raise IncompatibleError("this board has no FPGA to program")
    return session.endpoint.fpga


@exported(
    "edge.flash.begin",
    "Begin or resume the upload of a bitstream file of so many bytes with this SHA-256; returns how many bytes the "
    "agent already has.",
)
def flash_begin(session: Session, nbytes: int, sha256: str) -> int:
    return _fpga(session).uploads.begin(nbytes, sha256)


@exported("edge.flash.chunk", "Append bytes at an offset to a bitstream's upload; returns where the next chunk begins.")
def flash_chunk(session: Session, sha256: str, offset: int, data: bytes) -> int:
    return _fpga(session).uploads.chunk(sha256, offset, data)


@exported(
    "edge.flash.commit",
    "End a bitstream's upload: verify the whole file, and that it is for this board's FPGA; returns its SHA-256.",
)
def flash_commit(session: Session, sha256: str) -> str:
    return _fpga(session).uploads.commit(sha256)


@exported(
    "edge.flash.program",
    "Program an uploaded bitstream and self-test the accelerator; the one before comes back where that fails. Takes "
    "the bitstream's name, VTA configuration and hardware version; returns JSON: `bitstream`, `previous`, `seconds`, "
    "`self_test`.",
)
def flash_program(session: Session, sha256: str, name: str, config: str, isa: str) -> str:
    session.check_lease()
    return json.dumps(_fpga(session).flash(sha256, name, config, isa))


@exported(
    "edge.lease.take",
    "Take the board for a while, see Leases: so many seconds from now, or where it is `automatic` from the lease's "
    "latest use. This session works under the lease from now on. Returns its token.",
)
def lease_take(session: Session, owner: str, purpose: str, seconds: float, automatic: bool) -> str:
    session.lease = session.endpoint.leases.take(owner, purpose, seconds, automatic)
    return session.lease


@exported("edge.lease.use", "Let this session work under the lease with this token, from another session.")
def lease_use(session: Session, token: str) -> None:
    session.endpoint.leases.check(token)
    session.lease = token


@exported("edge.lease.renew", "Let the session's lease last so many seconds from now.")
def lease_renew(session: Session, seconds: float) -> None:
    session.endpoint.leases.renew(session.lease or "", seconds)


@exported("edge.lease.release", "Give the session's lease back.")
def lease_release(session: Session) -> None:
    session.endpoint.leases.release(session.lease)
    session.lease = None


@exported(
    "edge.prove",
    "HMAC-SHA256 in hexadecimal, by the agent's RPC key, of `edge-agent ` and the challenge (16 to 64 characters): "
    "who came by a tracker's one-time key learns whether this is the board that it knows the key of.",
)
def prove(session: Session, challenge: str) -> str:
    return handshake.proof(session.endpoint.key, challenge)


@exported("edge.shutdown", "End the agent. Only a simulated board on loopback allows it.")
def shutdown(session: Session) -> None:
    session.endpoint.shut_down()
