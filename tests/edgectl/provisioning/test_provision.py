"""Boards provisioned over a real sshd: users, files, packages and the running agent are real, on a root of its own.

There is no init in it: `systemctl`, `journalctl`, `udevadm` and `sudo` are stand-ins (tests/stand_ins).
"""

from __future__ import annotations

import io
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edge_agent.boards import profile
from edgectl.boards.board import Board
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.remote_shell import RemoteShell, SshShell
from edgectl.errors import BusyError, EdgectlError, IncompatibleError, UsageError, VerificationError
from edgectl.provisioning import provision as module
from edgectl.provisioning import running, wheelhouse
from edgectl.provisioning.agent_wheel import FILE_NAME, agent_wheel
from edgectl.provisioning.facts import gather
from edgectl.provisioning.provision import Login, ProvisionReport, provision, unprovision
from edgectl.provisioning.steps import Step, install_steps, uninstall_steps
from tests.edgectl.provisioning.wheels import repacked
from tests.isolated_board import IsolatedBoard, isolated_board

SNAPSHOT = "find /etc /opt /var/lib/edge-agent /usr/lib/firmware -printf '%p %T@ %s %m %U:%G\\n' 2>/dev/null | sort"
NEEDED = ("pip", "prometheus_client")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedBoard]:
    with isolated_board(tmp_path_factory.mktemp("board")) as made:
        yield made


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name in NEEDED:
        try:
            repacked(folder, name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here, from which its wheel is made")
    return folder


@pytest.fixture(autouse=True)
def own_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))


@pytest.fixture
def login(board: IsolatedBoard) -> Iterator[Login]:
    """A way in; what a test has installed is removed after it."""
    made = Login(board.target, str(board.identity), confirm=lambda question: True)
    yield made
    unprovision(made, purge=True)


@pytest.fixture
def shell(login: Login) -> Iterator[SshShell]:
    with SshShell(login.ssh, login.board().host_key, login.identity_file) as made:
        yield made


def said(shell: RemoteShell, command: str) -> str:
    done = shell.run(command)
    assert done.code == 0, done.errors
    return done.output.strip()


def done(report: ProvisionReport) -> list[str]:
    return [outcome.name for outcome in report.outcomes if outcome.state == "done"]


def test_a_fresh_board_serves_and_is_left_as_it_was(login: Login, shell: SshShell, wheels: Path) -> None:
    before = said(shell, SNAPSHOT)
    planned = provision(login, "desk", "sim", wheels, dry_run=True)
    assert {outcome.state for outcome in planned.outcomes} == {"would be done"} and planned.changed
    assert (
        said(shell, SNAPSHOT) == before
        and not Inventory().boards()
        and not Inventory().path.parent.joinpath("keys").exists()
    )

    first = provision(login, "desk", "sim", wheels)
    names = ["key file", "user", "state folder", "key", "options", "packages", "board", "unit edge-agent", "service"]
    assert done(first) == [*names, "inventory"] == [outcome.name for outcome in planned.outcomes]
    entry = Inventory().boards()["desk"]
    key_file = Path(entry.key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600 and entry.type == "sim" and entry.host_key
    assert said(shell, "stat -c %a:%U:%G /etc/edge-agent/key /var/lib/edge-agent").split() == [
        "640:root:edge-agent",
        "750:edge-agent:edge-agent",
    ]
    assert said(shell, "cat /etc/edge-agent/key") == key_file.read_text().strip()
    assert said(shell, "getent passwd edge-agent").endswith(":/var/lib/edge-agent:/usr/sbin/nologin")
    assert said(shell, "stat -c %U /proc/$(cat /run/units/edge-agent.service.pid)") == "edge-agent"
    assert "--http-host 0.0.0.0" in said(
        shell, "tr '\\000' ' ' < /proc/$(cat /run/units/edge-agent.service.pid)/cmdline"
    )
    with Board("desk") as opened:
        identity = opened.status_at_connect["id"]
        assert identity == entry.id and opened.profile == "sim"

    again = provision(login, wheels=wheels)
    assert not again.changed and again.name == "desk" and again.profile == "sim"

    assert [outcome.state for outcome in unprovision(login, dry_run=True).outcomes].count("would be removed") == 6
    removed = unprovision(login)
    assert "kept" in [outcome.state for outcome in removed.outcomes] and not Inventory().boards()
    assert said(shell, "cat /var/lib/edge-agent/identity") == identity
    assert said(shell, "stat -c %U:%a /var/lib/edge-agent") == "root:700" and not key_file.exists()
    assert not unprovision(login).changed and unprovision(login, purge=True).changed
    paths = [line.split()[0] for line in before.splitlines()]
    ignored = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
    after = [line.split()[0] for line in said(shell, SNAPSHOT).splitlines()]
    assert [path for path in {*paths} ^ {*after} if not path.startswith(ignored)] in (
        [],
        ["/etc/systemd/system/multi-user.target.wants"],
    )
    assert "edge-agent" not in said(shell, "cat /etc/passwd /etc/group; ls /run/units/*.pid 2>&1 || true")


@pytest.mark.slow
def test_what_was_changed_on_the_board_is_put_right_and_options_are_kept(
    login: Login, shell: SshShell, wheels: Path
) -> None:
    provision(login, "desk", "sim", wheels)
    entry = Inventory().boards()["desk"]
    key_file, identity = Path(entry.key_file), entry.id

    said(shell, "echo 'OPTIONS=--name bench' > /etc/edge-agent/options")
    assert done(provision(login, wheels=wheels)) == ["service"]
    with Board("desk") as opened:
        assert opened.status_at_connect["name"] == "bench"

    said(
        shell, "rm /etc/edge-agent/board; chmod 644 /etc/edge-agent/key; kill $(cat /run/units/edge-agent.service.pid)"
    )
    assert done(provision(login, kind="sim", wheels=wheels)) == ["key", "board", "service"]
    key_file.unlink()
    assert done(provision(login, wheels=wheels)) == ["key file"]
    with Board("desk") as opened:  # by the board's own key, fetched
        assert opened.status_at_connect["id"] == identity


def test_a_user_without_rights_is_refused_and_one_with_sudo_is_not(
    board: IsolatedBoard, login: Login, shell: SshShell, wheels: Path
) -> None:
    said(shell, "id pat 2>/dev/null || useradd --create-home --shell /bin/sh --password '*' pat")
    user = Login(board.target.replace("root@", "pat@"), login.identity_file, confirm=login.confirm)
    before = said(shell, SNAPSHOT)
    with pytest.raises(
        IncompatibleError, match=r"right to install is not there for pat.*log in as root, or on the board"
    ):
        provision(user, "desk", "sim", wheels)
    assert said(shell, SNAPSHOT) == before
    said(
        shell,
        'install -m 4755 /usr/bin/setpriv /usr/local/bin/become && printf \'#!/bin/sh\\n[ "$1" = -n ] || exit 1\\n'
        "shift\\n"
        'exec /usr/local/bin/become --reuid=0 --regid=0 --clear-groups "$@"\\n\' > /usr/local/bin/sudo && '
        "chmod 755 /usr/local/bin/sudo",
    )
    try:
        assert [outcome.state for outcome in unprovision(user, dry_run=True).outcomes] == ["not there"] * 14
        with SshShell(user.ssh, user.board().host_key, user.identity_file) as theirs:
            steps = [step for step in _steps(theirs, wheels, "pynq") if step.name not in ("packages", "service")]
            running.install(theirs, steps, False, lambda text: None)
            assert said(shell, "stat -c %U:%a /etc/edge-agent/key /etc/udev/rules.d/60-edge-agent.rules").split() == [
                "root:640",
                "root:644",
            ]
            assert said(theirs, "ls -d /tmp/edge-provision.* 2>/dev/null || true") == ""
    finally:
        said(shell, "rm -f /usr/local/bin/sudo /usr/local/bin/become")


def _steps(shell: RemoteShell, folder: Path, kind: str) -> list[Step]:
    collected = wheelhouse.wheelhouse(gather(shell).platform, folder)
    return install_steps(profile(kind), collected, f"{kind}:{'0' * 32}", True)


def test_a_board_with_an_fpga_gets_rules_module_and_helper(login: Login, shell: SshShell, wheels: Path) -> None:
    """Up to the start: there is no FPGA here for the helper and the agent to find."""
    steps = _steps(shell, wheels, "ultra96")
    outcomes = running.install(
        shell, [step for step in steps if step.name not in ("packages", "service")], False, print
    )
    assert [outcome.name for outcome in outcomes][5:] == [
        "udev rules",
        "kernel module",
        "DMA memory",
        "unit edge-agent",
        "edge-agent: incoherent",
        "unit edge-fpga",
        "edge-fpga: ports",
    ]
    assert "BOARD_OPTIONS=--board ultra96 --fpga-helper /run/edge-fpga/socket" in said(
        shell, "cat /etc/edge-agent/board"
    )
    said(shell, "mkdir -p /opt/edge-agent")
    with pytest.raises(EdgectlError, match=r"step 'service' failed with exit code 1"):
        running.install(shell, [steps[-1]], False, print)
    calls = said(shell, "cat /run/calls.log")
    assert "udevadm control --reload\nudevadm trigger --subsystem-match=uio --subsystem-match=u-dma-buf" in calls
    assert calls.rstrip().endswith("systemctl restart edge-agent.service edge-fpga.service")
    undone = running.uninstall(shell, uninstall_steps(True), False, print)
    assert [outcome.name for outcome in undone if outcome.state == "not there"] == ["firmware"]
    assert said(shell, "ls /etc/systemd/system /etc/udev/rules.d /etc/modprobe.d | grep edge || true") == ""


def test_the_host_key_is_pinned_before_anything(board: IsolatedBoard, login: Login, wheels: Path) -> None:
    unknown = replace(login, confirm=None)
    with pytest.raises(
        VerificationError, match=r"not known: it shows .* then: edgectl provision root@.* --accept-fingerp"
    ):
        provision(unknown, "desk", "sim", wheels)
    with pytest.raises(VerificationError, match="was not accepted"):
        provision(replace(login, confirm=lambda question: False), "desk", "sim", wheels)
    with pytest.raises(VerificationError, match="it is not the board that you mean"):
        provision(replace(unknown, accepted="SHA256:" + "A" * 43), "desk", "sim", wheels)
    assert not Inventory().boards()


def test_an_entry_without_a_key_file_gets_one(login: Login, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = InventoryBoard("unnamed", ssh=login.ssh, host_key="ssh-ed25519 SHA256:" + "A" * 43)
    Inventory().add(entry)
    Inventory().add(InventoryBoard("other", address="127.0.0.1:1"))
    monkeypatch.setattr(module, "from_inventory", lambda board: Answering())
    with_key = replace(entry, key_file=str(tmp_path / "unnamed.key"))
    assert module._write_down(with_key, True).state == "would be done"
    assert module._write_down(with_key, False).state == "done"
    assert module._write_down(with_key, False).state == "unchanged"
    assert Inventory().boards()["unnamed"] == with_key and login.entry() == with_key
    with pytest.raises(
        UsageError, match="is 'unnamed' in your inventory; leave --name out, or first: edgectl boards rena"
    ):
        login.board("desk")
    with pytest.raises(UsageError, match=r"there is a board 'other' already, at 127.0.0.1:1; give another --name"):
        replace(login, ssh="root@10.0.0.1").board("other")
    Inventory().remove("unnamed")


class Answering:
    """An agent that answers."""

    def connect(self, seconds: float) -> Answering:
        return self

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def status(self) -> dict[str, object]:
        return {}


def test_names_that_cannot_be(login: Login, wheels: Path) -> None:
    with pytest.raises(UsageError, match="'pynq' is a kind of board"):
        provision(login, "pynq", "sim", wheels)
    with pytest.raises(UsageError, match="does not say what kind it is"):
        provision(login, "desk", "", wheels)


def test_two_at_once_take_turns(login: Login, shell: SshShell, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_EXCLUSIVELY", running._EXCLUSIVELY.replace("-w 60", "-w 0.2"))
    said(shell, "exec 9>/run/lock/edge-provision; flock 9; sleep 600 >/dev/null 2>&1 & echo $! > /run/holder")
    with pytest.raises(BusyError, match="another `edgectl provision` works on this board"):
        provision(login, "desk", "sim", wheels)
    said(shell, "kill $(cat /run/holder)")


@pytest.mark.slow
def test_two_at_once_that_both_found_a_fresh_board(
    login: Login, shell: SshShell, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has made a key and found nothing done; both end well, with the key of whoever was first."""
    both, original = threading.Barrier(2, timeout=60), module._key

    def together(*arguments: Any) -> tuple[str, bool]:
        made = original(*arguments)
        both.wait()
        return made

    monkeypatch.setattr(module, "_key", together)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda number: provision(login, "desk", "sim", wheels), range(2)))
    assert [report.name for report in reports] == ["desk", "desk"]
    key = Path(Inventory().boards()["desk"].key_file).read_text().strip()
    assert said(shell, "cat /etc/edge-agent/key") == key and answers()


@pytest.mark.slow
def test_a_board_that_was_provisioned_as_the_wrong_kind(login: Login, shell: SshShell, wheels: Path) -> None:
    """What the other kind had goes, and the next run without --type takes the kind of the last one."""
    other = [step for step in _steps(shell, wheels, "ultra96") if step.name not in ("packages", "service")]
    running.install(shell, other, False, print)
    provision(login, "desk", "sim", wheels)
    # The key of the attempt before, and its files' names.
    assert said(shell, "cat /etc/edge-agent/key").startswith("ultra96:")
    left = "find /etc/systemd/system /etc/udev /etc/modprobe.d /etc/modules-load.d -name '*edge*' -o -name '*.conf'"
    assert "fpga" not in said(shell, left) and "incoherent" not in said(shell, left)
    assert "60-edge-agent" not in said(shell, left) and "/edge-agent.conf" not in said(shell, left)
    assert done(provision(login, kind="pynq-model", wheels=wheels)) == ["board", "service", "inventory"]
    assert Inventory().boards()["desk"].type == "pynq-model"
    with Board("desk") as opened:
        assert opened.profile == "pynq-model"
    again = provision(login, wheels=wheels)
    assert not again.changed and again.profile == "pynq-model"


def test_key_files_go_with_their_board(tmp_path: Path) -> None:
    """A board that was renamed keeps its key file: another one of its old name gets its own."""
    keys = tmp_path / "keys"
    assert module._free_key_file("desk") == keys / "desk.key"
    for name in ("desk", "desk-2"):
        module._keep_key(keys / f"{name}.key", "sim:" + "0" * 32, False)
    Inventory().add(InventoryBoard("bench", ssh="root@10.0.0.1", key_file=str(keys / "desk.key")))
    assert module._free_key_file("desk") == keys / "desk-2.key"
    Inventory().add(InventoryBoard("desk", ssh="root@10.0.0.2", key_file=str(keys / "desk-2.key")))
    own = tmp_path / "own.key"
    own.write_text("sim:mine")
    Inventory().add(InventoryBoard("other", ssh="root@10.0.0.3", key_file=str(own)))
    for name, left in (("bench", ["desk-2.key"]), ("desk", []), ("other", [])):
        outcome = module._forget(Inventory().boards()[name], False)
        assert [path.name for path in keys.iterdir()] == left and ("its key file" in outcome.what) == (name != "other")
    assert own.exists() and not Inventory().boards()


def test_the_folder_of_keys_does_not_depend_on_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECTL_INVENTORY", "boards.toml")
    assert module._free_key_file("desk") == tmp_path / "keys" / "desk.key"


def test_a_disk_that_fills_up_says_so(login: Login, shell: SshShell, wheels: Path) -> None:
    said(shell, "mount -t tmpfs -o size=256k tmpfs /opt")
    try:
        packages = next(step for step in _steps(shell, wheels, "sim") if step.name == "packages")
        with pytest.raises(EdgectlError, match="step 'packages': the board's disk is full; make room there"):
            running.install(shell, [packages], False, print)
        with pytest.raises(EdgectlError, match="MiB free below /opt, the agent needs"):
            provision(login, "desk", "sim", wheels)
        said(shell, "test ! -e /opt/edge-agent/venv")
    finally:
        said(shell, "umount /opt")


def changed_agent(main: str) -> bytes:
    """The agent's wheel, its command replaced by one that runs `main` first."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(agent_wheel())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("entry_points.txt"):
                data = data.replace(b"edge_agent.agent:main", b"edge_agent.changed:main")
            new.writestr(zipfile.ZipInfo(name), data)
        new.writestr(
            zipfile.ZipInfo("edge_agent/changed.py"),
            f"from edge_agent import agent\n\ndef main():\n    {main}\n    return agent.main()\n",
        )
    return made.getvalue()


def answers() -> bool:
    with Board("desk") as opened:
        return bool(opened.status_at_connect["id"])


@pytest.mark.slow
def test_an_agent_that_does_not_start_gives_way_to_the_one_before(
    login: Login, shell: SshShell, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(login, "desk", "sim", wheels)
    release = said(shell, "readlink /opt/edge-agent/venv")
    monkeypatch.setattr(wheelhouse, "agent_wheel", lambda: changed_agent("raise SystemExit('it is broken')"))
    with pytest.raises(EdgectlError) as raised:
        provision(login, "desk", "sim", wheels)
    assert "step 'service' failed" in str(raised.value) and "it is broken" in str(raised.value)
    assert "the version before runs again" in str(raised.value)
    assert said(shell, "readlink /opt/edge-agent/venv") == release and answers()
    monkeypatch.setattr(wheelhouse, "agent_wheel", lambda: changed_agent("print('newer', flush=True)"))
    assert done(provision(login, "desk", "sim", wheels)) == ["packages", "service"]
    assert "newer" in said(shell, "cat /run/units/edge-agent.service.log") and answers()
    assert len(said(shell, "ls -d /opt/edge-agent/venv*").split()) == 2
    assert not provision(login, "desk", "sim", wheels).changed


def cut(name: str, count: int, original: Callable[..., None]) -> Callable[..., None]:
    """`running._apply` whose step `name` is killed after `count` commands."""

    def apply(shell: RemoteShell, step: Step, commands: Sequence[str], staging: str) -> None:
        # The first one of an installation is its check.
        original(shell, step, (*commands[: count + 1], "exit 137") if step.name == name else commands, staging)

    return apply


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_anywhere_it_goes_on_with_the_next_run(
    login: Login, shell: SshShell, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installing, upgrading and removing, cut off after each command of each step."""
    original = running._apply
    collected = wheelhouse.wheelhouse(gather(shell).platform, wheels)
    steps = install_steps(profile("sim"), collected, "sim:" + "0" * 32, False)
    kills = 0
    for upgrade in (False, True):
        if upgrade:
            monkeypatch.setattr(wheelhouse, "agent_wheel", lambda: changed_agent("pass"))
        for step in steps:
            for count in range(len(step.apply) + 1):
                if upgrade and step.name not in ("packages", "service"):
                    continue
                monkeypatch.setattr(running, "_apply", cut(step.name, count, original))
                try:
                    provision(login, "desk", "sim", wheels)
                except EdgectlError as error:
                    assert f"step '{step.name}' failed with exit code 137" in str(error)
                    kills += 1
                else:
                    # All that the step's check asks for was done by the commands before.
                    break
                if upgrade:
                    assert answers(), (step.name, count)
        monkeypatch.setattr(running, "_apply", original)
        provision(login, "desk", "sim", wheels)
        assert answers() and not provision(login, "desk", "sim", wheels).changed
    assert kills > 30
    left = said(shell, "find /etc /opt/edge-agent /var/lib/edge-agent -name '*.edgectl-new' -o -name 'venv-*'")
    assert left == f"/opt/edge-agent/{said(shell, 'readlink /opt/edge-agent/venv')}"

    for step in uninstall_steps(True):
        for count in range(len(step.undo)):
            monkeypatch.setattr(running, "_apply", cut(step.name, count, original))
            try:
                unprovision(login, purge=True)
            except EdgectlError as error:
                assert f"step '{step.name}' failed with exit code 137" in str(error)
    monkeypatch.setattr(running, "_apply", original)
    unprovision(login, purge=True)
    assert not unprovision(login, purge=True).changed
    assert said(shell, "ls -d /opt/edge-agent /etc/edge-agent /var/lib/edge-agent 2>/dev/null || true") == ""


def test_the_key_of_another_attempt_is_used(login: Login, shell: SshShell, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "desk.key"
    key, kept = module._key(shell, file, profile("sim"))
    assert key.startswith("sim:") and len(key) == 36 and not kept
    module._keep_key(file, key, kept)
    assert module._key(shell, file, profile("sim")) == (key, True)
    said(shell, "mkdir -p /etc/edge-agent && echo sim:other > /etc/edge-agent/key")
    with pytest.raises(UsageError, match="holds another RPC key than /etc/edge-agent/key on the board"):
        module._key(shell, file, profile("sim"))
    assert FILE_NAME.startswith("edgectl-")
