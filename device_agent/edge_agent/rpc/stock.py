"""The functions that an unmodified TVM client calls by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.bundle import read_bundle
from edge_agent.errors import InputError
from edge_agent.rpc.codec import FunctionHandle, ModuleHandle, Value
from edge_agent.rpc.evaluator import Evaluation
from edge_agent.rpc.functions import exported
from edge_agent.rpc.module import BundleModule

if TYPE_CHECKING:
    from edge_agent.rpc.session import Session

TRANSFER_BYTES = 4 << 20
"""The frame size in which a stock client copies tensors, so that none is as long as a tensor."""


@exported("tvm.rpc.server.upload", "Write a file into the session's folder, replacing it.")
def upload(session: Session, name: str, data: bytes | str) -> None:
    session.files.write(name, data if isinstance(data, bytes) else data.encode())


@exported("tvm.rpc.server.download", "The bytes of a file in the session's folder.")
def download(session: Session, name: str) -> bytes:
    return session.files.read(name)


@exported("tvm.rpc.server.remove", "Remove a file from the session's folder.")
def remove(session: Session, name: str) -> None:
    session.files.remove(name)


@exported(
    "tvm.rpc.server.listdir", "The names in the session's folder, joined by commas. The folder is '', '.' or '/'."
)
def listdir(session: Session, folder: str) -> str:
    if folder not in ("", ".", "/", "./"):
        raise InputError(f"a session has one folder, '.'; {folder[:64]!r} is not it")
    return ",".join(session.files.names())


@exported(
    "tvm.rpc.server.load_module",
    "Load an uploaded bundle as a module. Nothing else can be loaded: a library is arbitrary code.",
)
def load_module(session: Session, name: str) -> ModuleHandle:
    session.need_board()
    bundle = read_bundle(session.files.existing(name), session.endpoint.limits.bundle_bytes)
    model = session.endpoint.service.load(bundle)
    return session.keep_module(BundleModule(session, model))


@exported("tvm.rpc.server.ModuleGetFunction", "A function of a module, see the module's table.")
def module_get_function(
    session: Session, module: ModuleHandle, name: str, query_imports: bool = False
) -> FunctionHandle | None:
    found = session.find_module_function(module, name)
    return None if found is None else session.keep_function(found)


@exported("tvm.rpc.server.ImportModule", "Always an exception: a bundle is whole, nothing can be imported into it.")
def import_module(session: Session, parent: ModuleHandle, child: ModuleHandle) -> None:
    raise InputError("a bundle is whole: nothing can be imported into it; compile the parts into one bundle")


@exported(
    "runtime.RPCTimeEvaluator",
    "A function that times another one (of a module, or of this table where there is no "
    "module): it takes that one's arguments and returns `repeat` means in seconds as packed float64.",
)
def time_evaluator(
    session: Session,
    module: ModuleHandle | None,
    name: str,
    device_kind: int,
    device_index: int,
    number: int,
    repeat: int,
    min_repeat_ms: int,
    limit_zero_time_iterations: int = 100,
    cooldown_interval_ms: int = 0,
    repeats_to_cooldown: int = 1,
    cache_flush_bytes: int = 0,
    f_preproc_name: str = "",
) -> FunctionHandle:
    if f_preproc_name:
        raise InputError(f"time_evaluator: there is no preprocessing function '{f_preproc_name}' here")
    evaluation = Evaluation(
        number, repeat, min_repeat_ms / 1e3, cooldown_interval_ms / 1e3, max(1, repeats_to_cooldown)
    )
    evaluation.check()
    timed = session.find_function(name) if module is None else session.find_module_function(module, name)
    if timed is None:
        raise InputError(f"time_evaluator: there is no function '{name}'")

    def evaluate(arguments: list[Value]) -> bytes:
        return evaluation.run(lambda: session.discard_result(timed(arguments)), session.check_alive)

    return session.keep_function(evaluate)


@exported("tvm.rpc.server.GetCRTMaxPacketSize", "The frame size in which tensors shall be copied.")
def get_maximum_packet_size(session: Session) -> int:
    return TRANSFER_BYTES
