"""Programs a board that has no agent yet: the kernel's files, written by a shell script over SSH."""

from __future__ import annotations

import hashlib
import shlex
import time
from pathlib import PurePosixPath

from edge_agent.boards import BoardProfile, profile, profile_names
from edge_agent.fpga.manager import FIRMWARE
from edgectl.bitstreams import Candidate
from edgectl.boards.remote_shell import RemoteShell, as_root
from edgectl.errors import BusyError, EdgectlError, IncompatibleError, VerificationError
from edgectl.preflight import Check, require_fpga

_AGENT, _DIGEST, _STATE = 71, 72, 73
"""Exit codes of the script: an agent runs, the file has another digest, the kernel says no."""

_SCRIPT = """
set -eu
root={root} file={file}
trap 'rm -f "$file"' EXIT
manager=$root/sys/class/fpga_manager/fpga0
firmware=$root/lib/firmware
if pgrep -f '[e]dge[-_]agent.* --board ({boards})( |$)' >/dev/null 2>&1; then exit {agent}; fi
echo '{sha256}  '"$file" | sha256sum -c - >/dev/null 2>&1 || exit {digest}
mkdir -p "$firmware"
rm -f "$firmware"/.{name}.*.temporary
cp "$file" "$firmware/.{name}.$$.temporary"
sync
mv "$firmware/.{name}.$$.temporary" "$firmware/{name}"
echo 0 > "$manager/flags"
echo {name} > "$manager/firmware" || {{ cat "$manager/state"; exit {state}; }}
tries=0
while :; do
  waiting=$(cat "$manager/firmware" 2>/dev/null || true)
  now=$(cat "$manager/state")
  if [ -z "$waiting" ]; then
    case $now in operating) exit 0;; *error) echo "$now"; exit {state};; esac
  fi
  tries=$((tries + 1))
  [ $tries -lt 200 ] || {{ echo "$now"; exit {state}; }}
  sleep 0.1
done
"""


def shell_checks(shell: RemoteShell, board: BoardProfile, root: str = "") -> list[Check]:
    """What is on the other side: the right kernel, and the right to program. Raises EdgectlError."""
    fpga = require_fpga(board)
    folder = f"{root}/sys/class/fpga_manager/fpga0"
    found = shell.run(f"cat {shlex.quote(folder)}/name").output.strip()
    allowed = shell.run("test $(id -u) = 0 || sudo -n true").code == 0
    return [
        Check(
            "image",
            "FPGA manager",
            found or "not there",
            fpga.manager,
            found == fpga.manager,
            ""
            if found == fpga.manager
            else "give the right --type, or write the image of the board's maker to its card",
        ),
        Check(
            "image",
            "right to program",
            "there" if allowed else "not there",
            "there",
            allowed,
            "" if allowed else "log in as root, or allow sudo without a password for this",
        ),
    ]


def program_by_shell(shell: RemoteShell, bitstream: Candidate, board: BoardProfile, root: str = "") -> float:
    """Program a bitstream that was checked; returns the seconds it took. `root` stands for / in tests.

    Raises IncompatibleError (a board whose ports need setting), BusyError (an agent runs there), VerificationError
    (another file arrived), EdgectlError with the kernel's state.
    """
    fpga = require_fpga(board)
    if fpga.port_widths:
        raise IncompatibleError(
            f"programming a {fpga.part} without an agent is not implemented: the widths of its ports have to be set "
            "too; install the agent, then `edgectl flash HOST:PORT`"
        )
    data = bitstream.image.for_kernel(fpga)
    made = shell.run("mktemp")
    if made.code:
        raise EdgectlError(f"no temporary file can be made on the board: {made.errors.strip()}; free some space there")
    path = str(PurePosixPath(made.output.strip()))
    shell.put(data, path)
    script = _SCRIPT.format(
        root=shlex.quote(root),
        file=shlex.quote(path),
        sha256=hashlib.sha256(data).hexdigest(),
        name=FIRMWARE,
        boards="|".join(name for name in profile_names() if not profile(name).simulated),
        agent=_AGENT,
        digest=_DIGEST,
        state=_STATE,
    )
    begin = time.monotonic()
    done = shell.run(as_root(script))
    said = (done.output.strip() or done.errors.strip())[-200:]
    if done.code == _AGENT:
        raise BusyError(
            "an edge-agent runs on this board: flash through it, `edgectl flash HOST:PORT`, or stop it first"
        )
    if done.code == _DIGEST:
        raise VerificationError("what arrived on the board is not what was sent; try again")
    if done.code == _STATE:
        raise EdgectlError(
            f"the kernel could not program the FPGA: its state is '{said}'; see its log on the board: dmesg"
        )
    if done.code:
        raise EdgectlError(f"the board could not be programmed: exit code {done.code}, {said}")
    return time.monotonic() - begin
