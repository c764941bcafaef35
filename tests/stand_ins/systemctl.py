#!/usr/bin/env python3
"""Stands in for systemctl where there is no init: starts and stops the commands of units, and answers as it does.

It takes of a unit what matters for that: command, environment files, user and group, state and runtime directories, and
that the service says when it is ready. It confines nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
WANTS = UNITS / "multi-user.target.wants"
RUN = Path("/run/units")
READY_SECONDS = 60.0


def entries(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in [UNITS / unit, *sorted(UNITS.glob(f"{unit}.d/*.conf"))]:
        for line in path.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found.setdefault(key, []).append(value)
    return found


def environment(unit: dict[str, list[str]]) -> dict[str, str]:
    values: dict[str, str] = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    for name in unit.get("EnvironmentFile", []):
        path = Path(name.removeprefix("-"))
        if path.exists() or not name.startswith("-"):
            for line in path.read_text().splitlines():
                if line and not line.startswith("#"):
                    key, _, value = line.partition("=")
                    values[key] = value
    return values


def command(line: str, values: dict[str, str]) -> list[str]:
    words: list[str] = []
    for word in line.split():
        if found := re.fullmatch(r"\$(\w+)", word):
            words += values.get(found[1], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], ""), word))
    return words


def main_process(unit: str) -> int:
    try:
        pid = int((RUN / f"{unit}.pid").read_text())
        return pid if "zombie" not in Path(f"/proc/{pid}/status").read_text() else 0
    except (OSError, ValueError):
        return 0


def stop(unit: str) -> None:
    pid = main_process(unit)
    if pid:
        os.kill(pid, signal.SIGTERM)
        while main_process(unit):
            time.sleep(0.02)
    (RUN / f"{unit}.pid").unlink(missing_ok=True)


def start(unit: str) -> bool:
    found = entries(unit)
    values = environment(found)
    user, group = pwd.getpwnam(found["User"][-1]), grp.getgrnam(found["Group"][-1])
    for kind, place in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
        for name in found.get(kind, []):
            Path(place, name).mkdir(exist_ok=True, mode=0o750)
            shutil.chown(Path(place, name), user.pw_uid, group.gr_gid)
    RUN.mkdir(exist_ok=True)
    address = RUN / f"{unit}.notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (RUN / f"{unit}.log").open("ab") as log:
        manager.bind(str(address))
        address.chmod(0o666)
        manager.settimeout(0.1)
        process = subprocess.Popen(
            command(found["ExecStart"][-1], values),
            env={**values, "NOTIFY_SOCKET": str(address)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user.pw_uid,
            group=group.gr_gid,
            extra_groups=[],
            start_new_session=True,
        )
        (RUN / f"{unit}.pid").write_text(str(process.pid))
        deadline = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if b"READY=1" in manager.recv(4096):
                    return True
            except TimeoutError:
                pass
    print(f"Job for {unit} failed because the control process exited with error code.", file=sys.stderr)
    return False


def main() -> int:
    verb, *rest = sys.argv[1:]
    flags = [word for word in rest if word.startswith("-")]
    units = [word for word in rest if not word.startswith("-")]
    with open("/run/calls.log", "a") as log:
        print("systemctl", *sys.argv[1:], file=log)
    if verb == "is-active":
        return 0 if any(main_process(unit) for unit in units) else 3
    if verb == "is-enabled":
        return 0 if any((WANTS / unit).is_symlink() for unit in units) else 1
    for unit in units:
        if verb == "enable":
            WANTS.mkdir(exist_ok=True)
            (WANTS / unit).unlink(missing_ok=True)
            (WANTS / unit).symlink_to(UNITS / unit)
        if verb == "disable":
            (WANTS / unit).unlink(missing_ok=True)
        if verb in ("stop", "restart") or "--now" in flags:
            stop(unit)
    started = [start(unit) for unit in units] if verb == "restart" else []
    return 0 if all(started) else 1


if __name__ == "__main__":
    sys.exit(main())
