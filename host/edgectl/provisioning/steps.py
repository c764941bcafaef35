"""What provisioning does to a board, as data: steps that each look whether they are done, and can be undone."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import PurePosixPath

from edge_agent.boards import BoardProfile
from edgectl.provisioning.wheelhouse import Wheelhouse

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "edge-agent"
HOME = "/opt/edge-agent"
CONFIGURATION = "/etc/edge-agent"
STATE = "/var/lib/edge-agent"
KEY = f"{CONFIGURATION}/key"
UNITS = "/etc/systemd/system"
UDEV_RULES = "/etc/udev/rules.d/60-edge-agent.rules"
RUNNING = f"{HOME}/running"
"""Holds a digest of what the agent was last started with."""
_SERVICES = ("edge-agent.service", "edge-fpga.service")
_INSTALL_SECONDS = 600.0
_START_SECONDS = 420.0
"""Longer than the unit's own limit."""

OPTIONS_TEXT = """\
# Options of edge-agent on this board, yours to edit: `edgectl provision` keeps this file.
# Afterwards: systemctl restart edge-agent. HTTP, which Prometheus scrapes, can be reached; RPC goes through SSH.
OPTIONS=--http-host 0.0.0.0
"""


@dataclass(frozen=True)
class Step:
    """One step. Commands are POSIX shell, run as root, each of them whole.

    `check` exits with 0 where the step is done. `apply` are commands that do it, however far an earlier attempt came;
    `$staging` is a folder with `uploads`. `present` exits with 0 where there is something to undo, which `undo` does:
    what `removes` says is then `undone`.
    """

    name: str
    does: str
    check: str
    apply: Sequence[str]
    present: str = ""
    undo: Sequence[str] = ()
    removes: str = ""
    undone: str = "removed"
    uploads: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 60.0


def install_steps(board: BoardProfile, wheels: Wheelhouse, key: str, dma_module: bool) -> list[Step]:
    """Everything, in order. `key` is the RPC key for a board that has none; `dma_module`: it has u-dma-buf."""
    files = [_board_file(board, wheels.announces)]
    programs = _programs(board)
    if _drives(board):
        files.append(_udev_rules())
        if dma_module:
            files += _module_files()
    files.append(_unit("edge-agent"))
    if board.hardware is not None and not board.simulated and not board.hardware.coherent:
        files.append(_drop_in("edge-agent", "incoherent"))
    if programs:
        files.append(_unit("edge-fpga"))
        if board.fpga is not None and board.fpga.port_widths:
            files.append(_drop_in("edge-fpga", "ports"))
    return [
        _user(),
        _state_folder(),
        _key(key),
        _options(),
        _packages(wheels),
        *files,
        _service(f"venv-{wheels.digest}", programs, dma_module and _drives(board)),
    ]


def leftover_steps(board: BoardProfile) -> list[Step]:
    """What only boards of another kind have, as which this one may have been provisioned before, to be undone."""
    helper, steps = f"{UNITS}/edge-fpga.service", []
    if not _programs(board):
        stop = f"test ! -e {helper} || systemctl disable --quiet --now edge-fpga.service"
        steps += [Step("edge-fpga", "", "", (), f"test -e {helper}", (stop,), "the running helper", "stopped")]
        steps += [_unit("edge-fpga")]
    if board.fpga is None or not board.fpga.port_widths or not _programs(board):
        steps.append(_drop_in("edge-fpga", "ports"))
    if board.hardware is None or board.simulated or board.hardware.coherent:
        steps.append(_drop_in("edge-agent", "incoherent"))
    if not _drives(board):
        steps += [*_module_files(), _udev_rules()]
    return steps


def uninstall_steps(purge: bool) -> list[Step]:
    """Everything that any provisioning may have installed, in the order in which it is undone."""
    packages = Step("packages", "", "", (), f"test -e {HOME}", (f"rm -rf {HOME}",), f"{HOME} with the agent")
    return [
        _service("", True, True),
        _drop_in("edge-fpga", "ports"),
        _unit("edge-fpga"),
        _drop_in("edge-agent", "incoherent"),
        _unit("edge-agent"),
        *reversed(_module_files()),
        _udev_rules(),
        packages,
        _file_step("firmware", "", "/lib/firmware/edge-vta.bin", b""),
        _configuration(),
        _purged_state() if purge else _kept_state(),
        _user(),
    ]


def _drives(board: BoardProfile) -> bool:
    """Whether there is a real accelerator."""
    return board.hardware is not None and not board.simulated


def _programs(board: BoardProfile) -> bool:
    """Whether the kernel lets edge-fpga program the FPGA."""
    return board.fpga is not None and board.fpga.method == "fpga_manager" and not board.simulated


def _user() -> Step:
    return Step(
        "user",
        f"create the system user {USER}, which cannot log in",
        f"getent passwd {USER} >/dev/null && getent group {USER} >/dev/null",
        (
            f"getent group {USER} >/dev/null || groupadd --system {USER}",
            f"getent passwd {USER} >/dev/null || useradd --system --gid {USER} --no-create-home --home-dir {STATE} "
            f"--shell /usr/sbin/nologin {USER}",
        ),
        f"getent passwd {USER} >/dev/null || getent group {USER} >/dev/null",
        (
            f"! getent passwd {USER} >/dev/null || userdel {USER}",
            f"! getent group {USER} >/dev/null || groupdel {USER}",
        ),
        f"the user {USER}",
    )


def _state_folder() -> Step:
    owner = f"{USER}:{USER}:750"
    return Step(
        "state folder",
        f"make {STATE}, the agent's",
        f'test "$(stat -c %U:%G:%a {STATE} 2>/dev/null)" = {owner} && '
        f'test -z "$(find {STATE} ! -user {USER} -print -quit)"',
        (f"install -d -m 0750 {STATE}", f"chown -R {USER}:{USER} {STATE}"),
    )


def _key(key: str) -> Step:
    temporary = f"{KEY}.edgectl-new"
    return Step(
        "key",
        f"put a new RPC key into {KEY}, for root and {USER} alone",
        f'test -s {KEY} && test "$(stat -c %U:%G:%a {KEY})" = root:{USER}:640 && '
        f'test "$(stat -c %U:%G:%a {CONFIGURATION})" = root:{USER}:750',
        (
            f"install -d -m 0750 -o root -g {USER} {CONFIGURATION}",
            # A key that is there already stays, with the rights that it must have.
            f'test -s {KEY} || install -m 0640 -o root -g {USER} "$staging/key" {temporary}',
            f"test -s {KEY} || sync {temporary}",
            f"test -s {KEY} || mv -f {temporary} {KEY}",
            f"chown root:{USER} {KEY}",
            f"chmod 0640 {KEY}",
        ),
        uploads={"key": f"{key}\n".encode()},
    )


def _configuration() -> Step:
    return Step(
        "configuration",
        "",
        "",
        (),
        f"test -e {CONFIGURATION}",
        (f"rm -rf {CONFIGURATION}",),
        f"{CONFIGURATION} with the key and your options",
    )


def _options() -> Step:
    path = f"{CONFIGURATION}/options"
    step = _file_step("options", f"write {path}, which is yours to edit", path, OPTIONS_TEXT.encode())
    return replace(step, check=f"test -e {path}", present="", undo=())


def _board_file(board: BoardProfile, announces: bool) -> Step:
    options = f"--board {board.name}"
    if _programs(board):
        options += " --fpga-helper /run/edge-fpga/socket"
    if announces:
        options += " --announce"
    text = f"# Installed by `edgectl provision`, which replaces it.\nBOARD={board.name}\nBOARD_OPTIONS={options}\n"
    path = f"{CONFIGURATION}/board"
    return _file_step("board", f"write {path}: {board.name}", path, text.encode())


def _module_files() -> list[Step]:
    unload = "! command -v modprobe >/dev/null || modprobe --remove u-dma-buf 2>/dev/null || true"
    return [
        _asset("kernel module", "modules/modules-load.conf", "/etc/modules-load.d/edge-agent.conf"),
        _asset("DMA memory", "modules/modprobe.conf", "/etc/modprobe.d/edge-agent.conf", unload),
    ]


def _unit(name: str) -> Step:
    return _asset(f"unit {name}", f"systemd/{name}.service", f"{UNITS}/{name}.service", "systemctl daemon-reload")


def _udev_rules() -> Step:
    return _asset("udev rules", "udev/60-edge-agent.rules", UDEV_RULES, "udevadm control --reload")


def _packages(wheels: Wheelhouse) -> Step:
    """Installed beside the version before, which runs on: only the last step changes which one is used."""
    folder = f"{HOME}/venv-{wheels.digest}"
    name, data = wheels.installer
    files = " ".join(f'"$staging"/{shlex.quote(wheel)}' for wheel in sorted(wheels.wheels))
    installer = f'"$staging"/{shlex.quote(name)}/pip'
    return Step(
        "packages",
        f"install {', '.join('-'.join(wheel.split('-')[:2]) for wheel in sorted(wheels.wheels))} into {folder}",
        f"test -e {folder}/.complete && {folder}/bin/python3 -c ''",
        (
            f"install -d -m 0755 {HOME}",
            f"rm -rf {folder}",
            f"python3 -m venv --without-pip --system-site-packages {folder}",
            f"{folder}/bin/python3 {installer} --isolated install --quiet --disable-pip-version-check --no-index "
            f"--no-deps --ignore-installed --no-cache-dir --no-warn-script-location --root-user-action ignore {files}",
            f"{folder}/bin/python3 -c 'import edge_agent.agent'",
            "sync",
            f"touch {folder}/.complete",
        ),
        uploads={**wheels.wheels, name: data},
        seconds=_INSTALL_SECONDS,
    )


def _service(release: str, programs: bool, dma_module: bool) -> Step:
    """Switches to what was installed and starts it. The version before comes back where the new one does not start."""
    services = " ".join(_SERVICES if programs else _SERVICES[:1])
    rules = ["udevadm control --reload", "udevadm trigger --subsystem-match=uio --subsystem-match=u-dma-buf"]
    modules = ["! command -v modprobe >/dev/null || modprobe u-dma-buf || true"] if dma_module else []
    devices = [f"test ! -e {UDEV_RULES} || {{ {rules[0]} && {rules[1]}; }}", *modules]
    link, new = f"{HOME}/venv", f"{HOME}/venv.edgectl-new"
    helper = ["install -d /lib/firmware"] if programs else []
    stamp = (
        f"cat {UNITS}/edge-agent.service {UNITS}/edge-agent.service.d/*.conf {UNITS}/edge-fpga.service "
        f"{UNITS}/edge-fpga.service.d/*.conf {CONFIGURATION}/* {UDEV_RULES} /etc/modprobe.d/edge-agent.conf "
        f"2>/dev/null | sha256sum | cut -c1-64"
    )
    # Of several units at once, systemctl only says whether any is.
    runs = " && ".join(
        f"systemctl is-enabled --quiet {service} && systemctl is-active --quiet {service}"
        for service in services.split()
    )
    start = (
        f"before=$(readlink {HOME}/previous || true)\n"
        f"if ! systemctl restart {services}; then\n"
        f"  journalctl --unit edge-agent --unit edge-fpga --lines 3 --output cat --no-pager 2>/dev/null || true\n"
        f'  if test -n "$before" && test "$before" != {release} && test -e "{HOME}/$before/.complete"; then\n'
        f'    ln -sfn "$before" {new}\n'
        f"    mv -T {new} {link}\n"
        f"    systemctl restart {services} && echo 'the version before runs again'\n"
        "  fi\n"
        "  exit 1\n"
        "fi"
    )
    return Step(
        "service",
        f"start {' and '.join(services.split())}, now and at each start of the board",
        f'test "$(readlink {link})" = {release} && {runs} && test "$(cat {RUNNING} 2>/dev/null)" = "$({stamp})"',
        (
            f"rm -f {RUNNING}",
            *helper,
            *devices,
            # The version that is known to start is remembered until the new one has.
            f"old=$(readlink {link} || true)\n"
            f'test -z "$old" || test "$old" = {release} || ln -sfn "$old" {HOME}/previous',
            f"ln -sfn {release} {new}",
            f"mv -T {new} {link}",
            "systemctl daemon-reload",
            f"systemctl enable --quiet {services}",
            f"systemctl reset-failed {services} 2>/dev/null || true",
            start,
            f"find {HOME} -mindepth 1 -maxdepth 1 -name 'venv-*' ! -name {release or 'none'} -exec rm -rf {{}} +",
            f"rm -f {HOME}/previous",
            f"{stamp} > {RUNNING}",
        ),
        f"test -e {UNITS}/edge-agent.service || test -e {UNITS}/edge-fpga.service",
        (*(f"test ! -e {UNITS}/{service} || systemctl disable --quiet --now {service}" for service in _SERVICES),),
        "the running services",
        seconds=_START_SECONDS,
    )


def _kept_state() -> Step:
    """Root's, so that no user who gets the freed number owns it."""
    return Step(
        "state folder",
        "",
        "",
        (),
        f'test -e {STATE} && test "$(stat -c %U {STATE})" != root',
        (f"chown -R root:root {STATE}", f"chmod 0700 {STATE}"),
        f"{STATE} with models and the board's identity, as root's",
        "kept",
    )


def _purged_state() -> Step:
    return Step(
        "state folder",
        "",
        "",
        (),
        f"test -e {STATE}",
        (f"rm -rf {STATE}",),
        f"{STATE} with all models and the board's identity",
    )


def _asset(name: str, source: str, path: str, *after_undo: str) -> Step:
    """A file of the folder deploy/; commands `after_undo` follow when it is removed."""
    data = (resources.files("edgectl") / "data" / "deploy" / source).read_bytes()
    step = _file_step(name, f"write {path}", path, data)
    return replace(step, undo=(*step.undo, *after_undo))


def _drop_in(unit: str, name: str) -> Step:
    folder = f"{UNITS}/{unit}.service.d"
    remove = f"rmdir --ignore-fail-on-non-empty {folder}"
    return _asset(f"{unit}: {name}", f"systemd/{unit}.{name}.conf", f"{folder}/{name}.conf", remove)


def _file_step(name: str, does: str, path: str, data: bytes) -> Step:
    """A file of root's that all may read, which gets its name when it is whole."""
    temporary, folder = f"{path}.edgectl-new", PurePosixPath(path).parent
    return Step(
        name,
        does,
        f'test "$(sha256sum < {path} 2>/dev/null)" = "{hashlib.sha256(data).hexdigest()}  -" && '
        f'test "$(stat -c %U:%G:%a {path})" = root:root:644',
        (
            f"test -d {folder} || install -d -m 0755 {folder}",
            f'install -m 0644 -o root -g root "$staging/file" {temporary}',
            f"sync {temporary}",
            f"mv -f {temporary} {path}",
        ),
        f"test -e {path} || test -e {temporary}",
        (f"rm -f {path} {temporary}",),
        path,
        uploads={"file": data},
    )
