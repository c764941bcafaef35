"""From TVM's object code to a shared library: ziglang's LLD, which needs no system compiler, and a small runtime shim.

Where ziglang is not installed, the system's (cross) gcc for the target does the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.elf import ElfLibrary, read_elf
from edgectl.codegen.cpu.target import CpuTarget
from edgectl.errors import CompileError, EdgectlError
from edgectl.files import atomic_file

SHIM = Path(__file__).with_name("shim.c")
_THREADS = SHIM.with_name("threads.c")
ALLOWED_UNDEFINED = frozenset({"free", "memcpy", "memmove", "memset", "posix_memalign"}) | {
    "getpid",
    "pthread_cond_broadcast",
    "pthread_cond_signal",
    "pthread_cond_wait",
    "pthread_create",
    "pthread_join",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "pthread_sigmask",
}
"""What a kernel library may take from the process that loads it: every libc has the first, and where threads (weak
symbols) are missing, kernels compute without them."""

_SHIM_FLAGS = (
    "-c",
    "-O2",
    "-g0",
    "-fPIC",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fvisibility=hidden",
)
_LINK_FLAGS = ("-shared", "--gc-sections", "--strip-debug", "-z", "noexecstack", "-z", "relro")
_TIMEOUT_SECONDS = 300


def link_library(objects: list[bytes], target: CpuTarget) -> bytes:
    """A shared library of TVM's relocatable `objects` and the shim. Raises CompileError where linking fails."""
    with tempfile.TemporaryDirectory(prefix="edgectl-link-") as folder:
        paths = []
        for index, data in enumerate([*objects, _shim_object(target)]):
            paths.append(Path(folder, f"{index}.o"))
            paths[-1].write_bytes(data)
        output = Path(folder, "kernels.so")
        gcc = _gcc(target)
        if gcc is None:
            _zig("ld.lld", *_LINK_FLAGS, "-o", str(output), *map(str, paths))
        else:
            # LLVM does not note in its ARM objects that floats are passed in registers: GNU ld then doubts it, and
            # believes the first object. A library without that note is one that boards do not load.
            flags = (*_LINK_FLAGS, "--no-warn-mismatch")
            options = [option for flag in flags for option in ("-Xlinker", flag)]
            _run([gcc, "-shared", "-nostdlib", *options, "-o", str(output), *map(str, reversed(paths))])
        library = output.read_bytes()
    _check(library, target)
    return library


def _check(library: bytes, target: CpuTarget) -> None:
    try:
        elf: ElfLibrary = read_elf(library)
    except IncompatibleError as error:
        raise CompileError(f"the linker's output for {target.name} cannot be used: {error}") from error
    foreign = sorted(elf.undefined - ALLOWED_UNDEFINED)
    if elf.machine != target.elf_machine or elf.needed or foreign:
        raise CompileError(
            f"the kernel library for {target.name} is for {elf.machine_name} (wanted {target.machine}), "
            f"needs libraries {list(elf.needed)} and symbols {foreign}, which boards do not provide"
        )


def _shim_object(target: CpuTarget) -> bytes:
    """The shim compiled for `target`, kept in the cache under the digest of all that determines it."""
    source = SHIM.read_bytes() + _THREADS.read_bytes()
    gcc = _gcc(target)
    compiler = importlib.metadata.version("ziglang") if gcc is None else _run([gcc, "-v"])
    determinants = repr((source, _SHIM_FLAGS, target.zig, compiler))
    digest = hashlib.sha256(determinants.encode()).hexdigest()[:16]
    cached = cache_folder() / f"shim-{target.name}-{digest}.o"
    if cached.exists():
        return cached.read_bytes()
    with tempfile.TemporaryDirectory(prefix="edgectl-shim-") as folder:
        output = Path(folder, "shim.o")
        if gcc is None:
            _zig("cc", *_SHIM_FLAGS, "-target", target.zig, "-o", str(output), str(SHIM))
        else:
            _run([gcc, *_SHIM_FLAGS, "-o", str(output), str(SHIM)])
        data = output.read_bytes()
    with contextlib.suppress(EdgectlError), atomic_file(cached) as file:
        file.write(data)
    return data


def cache_folder() -> Path:
    """A writable folder for compiled shims and zig's own cache: $EDGECTL_CACHE, the user's cache, or temporary."""
    candidates = []
    if os.environ.get("EDGECTL_CACHE"):
        candidates.append(Path(os.environ["EDGECTL_CACHE"]))
    else:
        import platformdirs

        candidates.append(Path(platformdirs.user_cache_dir("edgectl")))
    candidates.append(Path(tempfile.gettempdir(), f"edgectl-{os.getuid()}"))
    for candidate in candidates:
        folder = candidate / "cpu"
        try:
            candidate.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                # Code from a folder of somebody else, or that somebody else can exchange, would be linked in.
                if candidate.stat().st_uid == folder.stat().st_uid == os.getuid():
                    return folder
        except OSError:
            continue
    tried = ", ".join(map(str, candidates))
    raise CompileError(f"cannot write to {tried}; set EDGECTL_CACHE to a folder of yours")


def _gcc(target: CpuTarget) -> str | None:
    """The system's gcc for `target`, where ziglang is not installed. Raises CompileError where neither is."""
    if importlib.util.find_spec("ziglang") is not None:
        return None
    name = f"{target.zig}-gcc"
    found = shutil.which(name)
    if found is None:
        raise CompileError(
            f'linking needs ziglang or {name}; install it with `pip install "edgectl[host]"`, or the system package '
            f"gcc-{target.zig.replace('_', '-')}"
        )
    return found


def _zig(*arguments: str) -> None:
    cache = str(cache_folder() / "zig")
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise CompileError('linking needs ziglang; install it with `pip install "edgectl[host]"`')
    _run(
        [str(Path(found.origin).with_name("zig")), *arguments],
        {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        f"ziglang {arguments[0]}",
    )


def _run(command: list[str], environment: dict[str, str] | None = None, name: str = "") -> str:
    """What a tool says, on both streams. Raises CompileError."""
    name = name or Path(command[0]).name
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"the linker did not run: {error}; reinstall it with `pip install ziglang`") from error
    if result.returncode != 0:
        detail = (result.stderr or result.stdout).strip()[-2000:]
        raise CompileError(f"`{name}` failed with exit code {result.returncode}: {detail}")
    return result.stdout + result.stderr
