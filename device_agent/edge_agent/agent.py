"""The agent's process: it puts the parts together, says where it listens, and ends cleanly."""

from __future__ import annotations

import argparse
import fcntl
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent import boards
from edge_agent.activity import Activity
from edge_agent.announce import Announcement, Announcer, library
from edge_agent.devices import open_accelerator, system_of
from edge_agent.errors import AgentError, BusyError
from edge_agent.fpga.flashing import Flasher
from edge_agent.fpga.helper import HelperProgrammer
from edge_agent.fpga.programmer import DirectProgrammer
from edge_agent.fpga_service import FpgaService
from edge_agent.http.server import Server as HttpServer
from edge_agent.identity import identity
from edge_agent.image import describe_image
from edge_agent.lease import Leases
from edge_agent.listening import is_everywhere, is_loopback
from edge_agent.metrics import Metrics
from edge_agent.rpc.server import Server as RpcServer
from edge_agent.rpc.session import Endpoint, Limits
from edge_agent.rpc.tracker import Registration
from edge_agent.runtime.compatibility import Processor
from edge_agent.runtime.executor import Runtime
from edge_agent.service import Service
from edge_agent.state_file import AgentState, this_process
from edge_agent.store import Store
from edge_agent.supervision import Supervisor
from edge_agent.uploads import Uploads
from edge_agent.version import CONTROL_PROTOCOL, VERSION

logger = logging.getLogger("edge_agent.agent")

EXIT_BUSY = 6
_DRAIN_SECONDS = 2.0
DEFAULT_RPC_PORT = 9091
DEFAULT_HTTP_PORT = 9092
MAXIMUM_PORT = 65535
MINIMUM_TOKEN_CHARACTERS = 16


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Serve inference on this board's VTA accelerator: RPC for edgectl and TVM, HTTP for metrics.",
    )
    parser.add_argument("--board", required=True, help="this board's profile, such as pynq or sim")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_RPC_PORT, help="RPC port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--http-port", type=_port, default=DEFAULT_HTTP_PORT, help="HTTP port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--http-host",
        metavar="ADDRESS",
        help="address to listen on for HTTP, which only reads (default: that of --host)",
    )
    parser.add_argument(
        "--state-dir", type=Path, required=True, help="directory for bundles and uploads, of this agent alone"
    )
    parser.add_argument("--state-file", type=Path, help="file to write process id, ports and key to once ready")
    parser.add_argument("--key-file", type=Path, help="file with the RPC key TYPE:TOKEN, which clients must present")
    parser.add_argument("--key", help="the same on the command line, where other users of this machine can read it")
    parser.add_argument(
        "--tracker",
        type=_host_and_port,
        metavar="HOST:PORT",
        help="register with this TVM tracker, under the key's type",
    )
    parser.add_argument(
        "--idle-timeout", type=_seconds, metavar="SECONDS", help="end after so long without an RPC call"
    )
    parser.add_argument(
        "--fpga-helper",
        type=Path,
        metavar="SOCKET",
        help="program the FPGA through edge-fpga, which listens there (default: this process does, as root)",
    )
    parser.add_argument(
        "--name",
        type=_name,
        default=socket.gethostname()[:63],
        help="this board's name for people (default: %(default)s)",
    )
    parser.add_argument(
        "--announce",
        action=argparse.BooleanOptionalAction,
        help="say on the network that this agent is here (default: unless it listens on this machine only)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > MAXIMUM_PORT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port: 0 to {MAXIMUM_PORT}")
    return int(text)


def _name(text: str) -> str:
    if not 0 < len(text.encode()) < 64 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:64]!r} is not a name of 1 to 63 printable bytes")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return seconds


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return host, _port(port)


class Agent:
    """One agent. `run` serves until `stop` or the idle timeout."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises AgentError where the board, an address or the state directory is unusable."""
        self._options = options
        self._started = time.monotonic()
        self._activity = Activity()
        self._stop = threading.Event()
        self._profile = boards.profile(options.board)
        self._key = _key(options)
        if options.announce:
            library()
        self._leases = Leases()
        self._lock = _StateLock(options.state_dir)
        try:
            self._identity = identity(options.state_dir)
            # What an agent that was killed left there.
            shutil.rmtree(options.state_dir / "sessions", ignore_errors=True)
            kernels = options.state_dir / "kernels"
            shutil.rmtree(kernels, ignore_errors=True)
            kernels.mkdir(mode=0o700)
            self._accelerator = open_accelerator(self._profile.accelerator, self._profile, options.state_dir)
            self._processor = Processor.here()
            self._metrics = Metrics(options.board, self._profile.config)
            # The rest of the board's memory belongs to models and to the system.
            share = self._profile.memory_bytes // 4
            limits = Limits(frame_bytes=share, memory_bytes=share, bundle_bytes=2 * share)
            store = Store(options.state_dir, limits.bundle_bytes)
            self._system = system_of(self._profile.accelerator, options.state_dir)
            flasher = self._flasher()
            self._service = Service(
                Runtime(self._accelerator, directory=kernels),
                self._accelerator,
                store,
                self._metrics,
                fpga_problem=(lambda: flasher.problem) if flasher is not None else lambda: "",
            )
            self._fpga = FpgaService(self._profile, flasher, self._service, self._accelerator)
            endpoint = Endpoint(
                options.board,
                self._service,
                Uploads(store),
                options.state_dir / "sessions",
                self.status,
                self._shut_down,
                limits,
                self._activity.working,
                self._leases,
                self._key,
                self._fpga,
            )
            self._rpc = RpcServer((options.host, options.port), [self._key], endpoint, self._metrics)
            self._http = HttpServer((options.http_host or options.host, options.http_port), self.status, self._metrics)
        except BaseException:
            if hasattr(self, "_accelerator"):
                self._accelerator.close()
            self._lock.release()
            raise
        self._supervisor = Supervisor(self._alive)
        self._announcer = self._make_announcer()
        self._registration = None
        if options.tracker:
            host = None if options.host in ("0.0.0.0", "::") else options.host
            self._registration = Registration(options.tracker, self._key.split(":")[0], self._rpc, host)

    def _flasher(self) -> Flasher | None:
        """What programs this board's FPGA; None where it has none."""
        if self._profile.fpga is None:
            return None
        helper: Path | None = self._options.fpga_helper
        programmer = HelperProgrammer(helper) if helper else DirectProgrammer(self._system, self._profile)
        return Flasher(self._profile, self._options.state_dir, self._system, programmer)

    def _make_announcer(self) -> Announcer | None:
        """None where it is not wanted or not possible."""
        options = self._options
        outside = not (is_loopback(options.host) and is_loopback(self._http.host))
        if not (outside if options.announce is None else options.announce):
            return None
        try:
            return Announcer(self._announcement, options.host, self._rpc.port)
        except AgentError as error:
            logger.warning("%s", error)
            return None

    def _announcement(self) -> Announcement:
        status = self.status()
        live, bitstream = status["live"], (status["fpga"] or {}).get("bitstream")
        return Announcement(
            self._identity,
            self._options.name,
            self._options.board,
            self._profile.config,
            bitstream["id"] if bitstream else "",
            live["model"] if live else "",
            VERSION,
            0 if is_loopback(self._http.host) else self._http.port,
            not is_loopback(self._options.host),
            "" if is_everywhere(self._http.host) or is_loopback(self._http.host) else self._http.host,
        )

    def _shut_down(self) -> None:
        if not self._profile.simulated or not is_loopback(self._options.host):
            raise AgentError(
                "only a simulated board on loopback can be shut down over RPC; stop its service on the board"
            )
        self._stop.set()

    def stop(self) -> None:
        self._stop.set()

    def _alive(self) -> bool:
        return self._rpc.alive and self._http.alive and self._service.alive

    def status(self) -> dict[str, Any]:
        """The agent as `/status` and `edge.status` give it."""
        return {
            "id": self._identity,
            "name": self._options.name,
            "board": self._options.board,
            "description": self._profile.description,
            "config": self._profile.config,
            "features": sorted(self._profile.features),
            "cpu": {"machine": self._processor.machine, "flags": sorted(self._processor.flags)},
            "version": VERSION,
            "protocol": CONTROL_PROTOCOL,
            "uptime_seconds": time.monotonic() - self._started,
            "rpc_port": self._rpc.port,
            "http_port": self._http.port,
            "http_host": self._http.host,
            "sessions": self._rpc.sessions,
            "image": describe_image(self._system),
            "fpga": self._fpga.status(),
            "lease": self._leases.status(),
            **self._service.status(),
        }

    def run(self) -> None:
        """Restore what was live, serve, and leave nothing behind."""
        options = self._options
        self._fpga.restore()
        self._service.restore()
        try:
            self._rpc.start()
            self._http.start()
            if self._registration is not None:
                self._registration.start()
            if self._announcer is not None:
                self._announcer.start()
            logger.info(
                "board %s: RPC on %s:%d, HTTP on http://%s:%d/",
                options.board,
                options.host,
                self._rpc.port,
                self._http.host,
                self._http.port,
            )
            if options.state_file is not None:
                pid, ticks = this_process()
                ports = self._rpc.port, self._http.port
                state = AgentState(pid, ticks, options.host, *ports, options.board, self._key, self._http.host)
                state.write(options.state_file)
            with self._activity.working():  # the idle time begins now
                pass
            self._supervisor.ready()
            while not self._stop.wait(0.2):
                self._fpga.recover()
                if options.idle_timeout is not None and self._activity.idle_seconds > options.idle_timeout:
                    logger.info("no call for %g s: ending", options.idle_timeout)
                    break
            self._supervisor.stopping()
            # Calls under way get their answer, edge.shutdown's own among them.
            self._activity.wait_idle(_DRAIN_SECONDS)
        finally:
            self._close()

    def _close(self) -> None:
        options = self._options
        self._supervisor.stopping()
        if options.state_file is not None:
            state = AgentState.read(options.state_file)
            if state is not None and (state.pid, state.start_ticks) == this_process():
                options.state_file.unlink(missing_ok=True)
        if self._announcer is not None:
            self._announcer.close()
        if self._registration is not None:
            self._registration.close()
        self._rpc.close()
        self._http.close()
        self._service.close()
        self._accelerator.close()
        for folder in ("sessions", "kernels"):
            shutil.rmtree(options.state_dir / folder, ignore_errors=True)
        self._lock.release()


class _StateLock:
    """One agent per state directory; the lock goes with the process, however it ends."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another agent uses the state directory {directory}; stop it or choose another with --state-dir"
            ) from None
        except OSError as error:
            raise AgentError(
                f"the state directory {directory} cannot be used: {error.strerror}; choose one with --state-dir"
            ) from error

    def release(self) -> None:
        os.close(self._descriptor)


def _key(options: argparse.Namespace) -> str:
    """The RPC key: from a file, from the command line, or a fresh one that the state file tells."""
    if options.key_file is not None:
        try:
            key = options.key_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise AgentError(f"the key file {options.key_file} cannot be read: {error}") from error
    else:
        key = options.key if options.key is not None else f"{options.board}:{secrets.token_hex(16)}"
    if not key or len(key) > 200 or not key.isprintable() or " " in key:
        raise AgentError("an RPC key has 1 to 200 printable characters without spaces: TYPE:TOKEN")
    if not is_loopback(options.host) and len(key.partition(":")[2]) < MINIMUM_TOKEN_CHARACTERS:
        raise AgentError(
            f"an agent that listens on {options.host}, not only on this machine, needs a key TYPE:TOKEN with a token "
            f"of at least {MINIMUM_TOKEN_CHARACTERS} characters; leave --key and --key-file out for a fresh one, or "
            "listen on 127.0.0.1 and connect through SSH"
        )
    return key


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an agent; returns the process's exit code."""
    options = parse_arguments(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        agent = Agent(options)
    except AgentError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return EXIT_BUSY if isinstance(error, BusyError) else 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        agent.run()
    except OSError as error:
        print(f"edge-agent: the state file {options.state_file} cannot be written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
