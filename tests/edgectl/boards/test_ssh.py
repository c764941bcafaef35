"""Agents behind a real SSH server: port forwarding, host keys that are pinned, known, unknown and changed, refusals."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgectl.boards.adding import add_board
from edgectl.boards.choosing import SshChoice, choose
from edgectl.boards.client import Connection
from edgectl.boards.host_keys import shown_key
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.ssh import SshRoute, connect
from edgectl.boards.ssh_target import SshTarget
from edgectl.errors import (
    AuthenticationError,
    DeadlineError,
    EdgectlError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from tests.edge_agent.fakes import ID, KEY, Board, board, bundle_bytes
from tests.edgectl.cli.conftest import Edgectl, edgectl  # noqa: F401
from tests.ssh_server import SshServer, fingerprint, free_port, make_key, needs_sshd, ssh_server

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without keys and known hosts, an inventory, and no SSH agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))
    return folder


@pytest.fixture
def server(shared_server: SshServer, home: Path) -> SshServer:
    """The server, which this home's user may log in to, and does not know yet."""
    shutil.copy(shared_server.identity, home / ".ssh" / "id_ed25519")
    return shared_server


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


def know(home: Path, server: SshServer) -> None:
    (home / ".ssh" / "known_hosts").write_text(server.known_hosts_line)


def pinned(server: SshServer) -> str:
    return f"ssh-ed25519 {server.fingerprint}"


def test_an_agent_through_a_forwarded_port(server: SshServer, home: Path, agent: Board) -> None:
    know(home, server)
    choice = choose(f"ssh://{server.target}", KEY)
    assert isinstance(choice, SshChoice)
    route = SshRoute(choice.target, agent.server.port)
    with Connection(route, KEY) as connection:
        data = bundle_bytes() + bytes(3_000_000)
        with pytest.raises(EdgectlError, match="not an edgectl bundle"):  # all of it has arrived
            connection.upload(data)
        connection.activate(connection.upload(bundle_bytes(bias=1)))
        inputs = {"data": np.ones((1, 4), np.float32)}
        assert connection.infer(inputs).outputs["result"].tolist() == [[3, 3, 3, 3]]
        connection.drop()
        assert connection.status()["id"] == ID  # through the same SSH connection
        assert str(connection.address) == f"ssh://{server.target}"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ssh 127") and _lasts(thread)]


def _lasts(thread: threading.Thread) -> bool:
    thread.join(10)
    return thread.is_alive()


def test_a_lost_ssh_connection_is_made_again(server: SshServer, home: Path, agent: Board) -> None:
    know(home, server)
    route = SshRoute(SshTarget.parse(server.target), agent.server.port)
    with Connection(route, KEY, deadline=10) as connection:
        transport = route.client(10).get_transport()
        assert transport is not None
        transport.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises((UnreachableError, DeadlineError)):
            connection.status()
        # Paramiko's own thread may notice the loss later than the caller.
        begin = time.monotonic()
        while route.client(10).get_transport() is transport and time.monotonic() - begin < 10:
            time.sleep(0.01)
        assert connection.status()["id"] == ID


def test_an_unknown_host_is_refused_and_never_added(server: SshServer, home: Path) -> None:
    with pytest.raises(VerificationError) as raised:
        connect(SshTarget.parse(server.target), "", "", 10)
    assert f"is not known: it shows ssh-ed25519 {server.fingerprint}" in str(raised.value)
    assert f"boards add NAME --ssh {server.target} --accept-fingerprint {server.fingerprint}" in str(raised.value)
    assert not (home / ".ssh" / "known_hosts").exists()


def test_a_changed_host_is_refused_with_both_fingerprints(server: SshServer, home: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    words = Path(f"{other}.pub").read_text().split()[:2]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {' '.join(words)}\n")
    target = SshTarget.parse(server.target)
    expected = f"CHANGED: expected ssh-ed25519 {fingerprint(other)}, found ssh-ed25519 {server.fingerprint}"
    for attempt in (
        lambda: connect(target, "", "", 10),
        lambda: connect(target, f"ssh-ed25519 {fingerprint(other)}", "", 10),
        lambda: shown_key(target),
        lambda: add_board(InventoryBoard("desk", ssh=server.target), confirm=lambda question: True),
    ):
        with pytest.raises(VerificationError) as raised:
            attempt()
        assert expected in str(raised.value) and raised.value.exit_code == 5
    assert Inventory().boards() == {}


def test_a_pin_holds_whatever_known_hosts_says(server: SshServer, home: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    words = Path(f"{other}.pub").read_text().split()[:2]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {' '.join(words)}\n")
    connect(SshTarget.parse(server.target), pinned(server), "", 10).close()


def test_the_pinned_type_of_key_is_asked_for(home: Path, tmp_path: Path) -> None:
    with ssh_server(tmp_path / "many", kinds=("ed25519", "ecdsa", "rsa")) as many:
        target = SshTarget.parse(many.target)
        for kind, name in (("rsa", "ssh-rsa"), ("ecdsa", "ecdsa-sha2-nistp256"), ("ed25519", "ssh-ed25519")):
            accepted = fingerprint(tmp_path / "many" / f"host_{kind}")
            pin, known = shown_key(target, accepted)
            assert (pin, known) == (f"{name} {accepted}", False)
            connect(target, pin, str(many.identity), 10).close()
        with pytest.raises(VerificationError, match=r"ssh-ed25519 .* and ecdsa.* and ssh-rsa .*, not SHA256:AAAA"):
            shown_key(target, "SHA256:" + "A" * 43)


def test_refusals_are_told_apart(server: SshServer, home: Path, tmp_path: Path) -> None:
    know(home, server)
    target = SshTarget.parse(server.target)
    stranger = make_key(tmp_path / "stranger")
    encrypted = make_key(tmp_path / "encrypted", passphrase="secret")
    (home / ".ssh" / "id_ed25519").unlink()
    for identity, message in (
        (str(stranger), f"refuses to log in '{server.user}' with {stranger}.*ssh-copy-id {server.target}"),
        ("", "with your SSH agent's keys and those in ~/.ssh"),
        (str(encrypted), "is encrypted; give it to your agent: ssh-add"),
    ):
        with pytest.raises(AuthenticationError, match=message) as raised:
            connect(target, "", identity, 10)
        assert raised.value.exit_code == 4
    (tmp_path / "notes.txt").write_text("no key at all\n")
    for file in (f"{stranger}.pub", str(tmp_path / "notes.txt")):
        with pytest.raises(UsageError, match=rf"the identity file {file} holds no private SSH key"):
            connect(target, "", file, 10)
    with pytest.raises(UsageError, match="nowhere cannot be read"):
        connect(target, "", str(tmp_path / "nowhere"), 10)
    with pytest.raises(UnreachableError, match="no SSH server answers") as unreachable:
        connect(SshTarget("me", "127.0.0.1", free_port()), "", "", 10)
    assert unreachable.value.exit_code == 3
    with pytest.raises(UnreachableError, match=r"no SSH server answers at me@no\.such\.host\.invalid"):
        connect(SshTarget("me", "no.such.host.invalid"), "", "", 10)


def test_a_server_that_says_nothing_ends_in_time(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = SshTarget("me", "127.0.0.1", listener.getsockname()[1])
        for attempt in (lambda: connect(silent, "", "", 0.5), lambda: shown_key(silent, seconds=0.5)):
            with pytest.raises(DeadlineError, match="did not answer by SSH in time") as raised:
                attempt()
            assert raised.value.exit_code == 124


def test_what_is_no_ssh_server(home: Path, agent: Board) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            accepted = listener.accept()[0]
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
            accepted.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UnreachableError, match=r"at me@127\.0\.0\.1"):
            connect(SshTarget("me", "127.0.0.1", listener.getsockname()[1]), "", "", 10)


def test_no_agent_behind_the_server(server: SshServer, home: Path) -> None:
    know(home, server)
    port = free_port()
    with pytest.raises(UnreachableError, match=rf"no agent listens on port {port} of 127\.0\.0\.1.*start edge-agent"):
        SshRoute(SshTarget.parse(server.target), port).dial(10)


def test_a_server_that_forwards_nothing(home: Path, tmp_path: Path, agent: Board) -> None:
    with ssh_server(tmp_path / "strict", options="AllowTcpForwarding no\n") as strict:
        route = SshRoute(SshTarget.parse(strict.target), agent.server.port, pinned(strict), str(strict.identity))
        with pytest.raises(UnreachableError, match="AllowTcpForwarding yes"):
            route.dial(10)
        route.close()


def test_a_hung_server_is_noticed(home: Path, tmp_path: Path, agent: Board) -> None:
    with ssh_server(tmp_path / "hung") as hung:
        hung.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(DeadlineError):
                connect(SshTarget.parse(hung.target), pinned(hung), str(hung.identity), 0.5)
        finally:
            hung.process.send_signal(signal.SIGCONT)


def test_a_board_is_met_pinned_and_used(
    server: SshServer,
    home: Path,
    agent: Board,
    key_file: Path,
    edgectl: Edgectl,  # noqa: F811
) -> None:
    options = ("--ssh", server.target, "--rpc-port", agent.server.port, "--key-file", key_file)
    refused = edgectl("boards", "add", "desk", *options)
    assert refused.code == 5 and server.fingerprint in refused.err and "is not known" in refused.err
    wrong = edgectl("boards", "add", "desk", *options, "--accept-fingerprint", "SHA256:" + "A" * 43)
    assert wrong.code == 5 and server.fingerprint in wrong.err and "AAAA" in wrong.err
    assert edgectl("boards", "add", "desk", *options, "--accept-fingerprint", "MD5:1").code == 2
    assert Inventory().boards() == {}
    added = edgectl("boards", "add", "desk", *options, "--accept-fingerprint", server.fingerprint, "--json")
    assert added.code == 0 and added.document["id"] == ID and added.document["host_key"] == pinned(server)
    assert not (home / ".ssh" / "known_hosts").exists()
    assert KEY.split(":")[1] not in Inventory().path.read_text() + added.out + added.err
    listed = {entry["name"]: entry for entry in edgectl("boards", "--json", "--no-discovery").document}["desk"]
    assert (listed["state"], listed["id"], listed["type"]) == ("running", ID, "sim") and listed["last_seen"]
    choice = choose("desk")
    assert isinstance(choice, SshChoice)
    choice.connect(10).close()
    again = edgectl("boards", "add", "desk", *options)
    assert again.code == 2 and "there is a board 'desk' already" in again.err


def test_consent_pins_and_refusal_writes_nothing(server: SshServer, home: Path, agent: Board, key_file: Path) -> None:
    asked: list[str] = []
    wanted = InventoryBoard("desk", ssh=server.target, rpc_port=agent.server.port, key_file=str(key_file))

    def say(answer: bool) -> Callable[[str], bool]:
        def reply(question: str) -> bool:
            asked.append(question)
            return answer

        return reply

    with pytest.raises(VerificationError, match="was not accepted; nothing was written down"):
        add_board(wanted, confirm=say(False))
    assert server.fingerprint in asked[0] and Inventory().boards() == {}
    assert add_board(wanted, confirm=say(True)).host_key == pinned(server)
    Inventory().remove("desk")
    know(home, server)
    add_board(wanted)  # known: nobody has to be asked
    assert len(asked) == 2 and Inventory().boards()["desk"].host_key == pinned(server)


def test_a_board_that_was_replaced_is_not_used(home: Path, tmp_path: Path, agent: Board, key_file: Path) -> None:
    port = free_port()
    options = {"rpc_port": agent.server.port, "key_file": str(key_file)}
    with ssh_server(tmp_path / "before", port) as before:
        wanted = InventoryBoard("desk", ssh=before.target, identity_file=str(before.identity), **options)  # type: ignore[arg-type]
        add_board(wanted, before.fingerprint)
    with ssh_server(tmp_path / "after", port) as after:
        choice = choose("desk")
        assert isinstance(choice, SshChoice)
        with pytest.raises(VerificationError) as raised:
            choice.connect(10)
    assert before.fingerprint in str(raised.value) and after.fingerprint in str(raised.value)
