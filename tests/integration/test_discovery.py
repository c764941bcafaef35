"""Discovery between hosts: network namespaces joined by a virtual cable, real mDNS, honest and hostile announcers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_agent.state_file import AgentState
from tests.edge_agent.bundles import identity_bundle

pytest.importorskip("zeroconf")

BROWSE = """
import json, sys
from dataclasses import asdict
from edgectl.boards.discovery import browse
found = browse(float(sys.argv[1]))
print(json.dumps([{**asdict(b), "address": str(b.address), "http": str(b.http_address)} for b in found]))
"""
DEPLOY = """
import sys
from edgectl.boards.client import Connection
with Connection((sys.argv[1], int(sys.argv[2])), sys.argv[3]) as connection:
    connection.activate(connection.upload(open(sys.argv[4], "rb").read()))
"""
ROGUE = """
import json, socket, sys, time
import zeroconf
from zeroconf import const
address, records = sys.argv[1], json.loads(sys.argv[2])
responder = zeroconf.Zeroconf(interfaces=[address], ip_version=zeroconf.IPVersion.V4Only)
kind = "_edge-vta._tcp.local."
IN = const._CLASS_IN
def send():
    for record in records:
        # By hand: the library itself refuses to register the worst of these.
        name = record["name"] + "." + kind
        text = b"".join(bytes([len(part)]) + part for part in (entry.encode()[:255] for entry in record["text"]))
        for part in (
            zeroconf.DNSPointer(kind, const._TYPE_PTR, IN, 4500, name),
            zeroconf.DNSService(name, const._TYPE_SRV, IN, 120, 0, 0, record.get("port", 9091), record["host"]),
            zeroconf.DNSText(name, const._TYPE_TXT, IN, 4500, text),
            zeroconf.DNSAddress(record["host"], const._TYPE_A, IN, 120, socket.inet_aton(record["address"])),
        ):
            out = zeroconf.DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
            out.add_answer_at_time(part, 0)
            responder.send(out)
while True:
    send()
    print("sent", flush=True)
    time.sleep(0.3)
"""
ID = "0123456789abcdef" * 2


def _may_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"edge-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", probe], check=False)
    return made


pytestmark = pytest.mark.skipif(not _may_make_namespaces(), reason="network namespaces need root and iproute2")


@dataclass
class Host:
    """A namespace with an address, and what runs in it."""

    name: str
    address: str
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *arguments: object) -> list[str]:
        return ["ip", "netns", "exec", self.name, sys.executable, *map(str, arguments)]

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.command(*arguments), text=True, **options)
        self.processes.append(process)
        return process

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            # Test runners set a width, which tables keep to.
            env={**{name: value for name, value in os.environ.items() if name != "COLUMNS"}, **environment},
            check=False,
        )

    def browse(self, seconds: float = 2.5) -> list[dict[str, Any]]:
        result = self.run("-c", BROWSE, seconds)
        assert result.returncode == 0, result.stderr
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found

    def agent(self, *options: object, host: str = "0.0.0.0") -> tuple[subprocess.Popen[str], AgentState]:
        state_file = self.folder / f"agent{len(self.processes)}.json"
        process = self.start(
            "-m", "edge_agent.agent", "--board", "sim", "--host", host, "--port", 0, "--http-port", 0,
            "--state-dir", self.folder / f"state{len(self.processes)}", "--state-file", state_file, *options,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while (state := AgentState.read(state_file)) is None:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        return process, state

    def rogue(self, *records: Mapping[str, Any]) -> None:
        process = self.start("-c", ROGUE, self.address, json.dumps(records), stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == "sent\n"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A board and a desk with a cable between them."""
    tag = f"edge{os.getpid()}"
    board, desk = Host(f"{tag}b", "10.79.0.1", tmp_path / "b"), Host(f"{tag}d", "10.79.0.2", tmp_path / "d")

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        for host in (board, desk):
            host.folder.mkdir()
            ip("netns", "add", host.name)
        ip("link", "add", "cable", "netns", board.name, "type", "veth", "peer", "name", "cable", "netns", desk.name)
        for host in (board, desk):
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "cable")
            ip("-n", host.name, "link", "set", "cable", "up")
            ip("-n", host.name, "link", "set", "lo", "up")
        yield board, desk
    finally:
        for host in (board, desk):
            for process in host.processes:
                process.kill()
                process.communicate()
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def identity(folder: Path) -> str:
    (file,) = folder.glob("state*/identity")
    return file.read_text().strip()


def eventually(desk: Host, wanted: Any) -> list[dict[str, Any]]:
    """What the desk finds, once it is what is `wanted`."""
    deadline = time.monotonic() + 60
    while not wanted(found := desk.browse()):
        assert time.monotonic() < deadline, found
    return found


def test_an_agent_is_found_changes_and_says_goodbye(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    board, desk = hosts
    process, state = board.agent("--name", "lab.bench 3")
    (found,) = eventually(desk, len)
    own = identity(board.folder)
    assert (found["name"], found["identity"], found["kind"]) == ("lab.bench 3", own, "sim")
    assert found["address"] == f"{board.address}:{state.rpc_port}"
    assert found["http"] == f"{board.address}:{state.http_port}"
    assert found["direct"] and found["model"] == "" and found["config"] == "1x16_i8w8a32_15_15_18_17"
    bundle = tmp_path / "bundle"
    bundle.write_bytes(identity_bundle("seven"))
    deployed = desk.run("-c", DEPLOY, board.address, state.rpc_port, state.key, bundle)
    assert deployed.returncode == 0, deployed.stderr
    (found,) = eventually(desk, lambda now: now and now[0]["model"])
    assert (found["model"], found["identity"]) == ("seven", own)
    # By its name from the other host; with the key of the environment, which no process list shows.
    own_files = {"EDGECTL_STATE": str(tmp_path / "s"), "EDGECTL_INVENTORY": str(tmp_path / "i.toml")}
    status = desk.run(
        "-c", "from edgectl.cli import main; main()", "status", "--board", "lab.bench 3", "--json",
        **own_files, EDGECTL_KEY=state.key,
    )  # fmt: skip
    assert status.returncode == 0 and json.loads(status.stdout)["id"] == own, status.stderr
    listed = desk.run("-c", "from edgectl.cli import main; main()", "boards", "--json", **own_files)
    (entry,) = [entry for entry in json.loads(listed.stdout) if "mdns" in entry["sources"]]
    assert (entry["id"], entry["state"], entry["model"], entry["type"]) == (own, "announced", "seven", "sim")
    # A browser that was there before hears the goodbye at once.
    watching = desk.start("-c", BROWSE, 6, stdout=subprocess.PIPE)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert json.loads(watching.communicate(timeout=60)[0]) == []


def test_a_killed_agent_is_no_longer_listed(hosts: tuple[Host, Host]) -> None:
    board, desk = hosts
    process, _ = board.agent()
    eventually(desk, len)
    process.kill()
    process.wait()
    assert desk.browse() == []


def test_an_agent_on_loopback_is_announced_only_where_told(hosts: tuple[Host, Host]) -> None:
    board, desk = hosts
    board.agent("--name", "silent", host="127.0.0.1")
    board.agent("--name", "told", "--announce", host="127.0.0.1")
    board.agent("--name", "hidden", "--no-announce")
    found = eventually(desk, len)
    assert [(each["name"], each["direct"], each["http"]) for each in found] == [("told", False, "None")]


def test_an_agent_whose_http_alone_is_reached_from_outside(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    board, desk = hosts
    _, state = board.agent("--http-host", "0.0.0.0", "--name", "open", "--key", "sim:short", host="127.0.0.1")
    _, other = board.agent("--http-host", board.address, "--name", "here", host="127.0.0.1")
    found = eventually(desk, lambda now: len(now) == 2)
    assert [(each["name"], each["direct"], each["http"]) for each in found] == [
        ("here", False, f"{board.address}:{other.http_port}"),
        ("open", False, f"{board.address}:{state.http_port}"),
    ]
    read = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    own_files = {"EDGECTL_STATE": str(tmp_path / "s"), "EDGECTL_INVENTORY": str(tmp_path / "i.toml")}
    listed = desk.run("-c", "from edgectl.cli import main; main()", "boards", "--json", **own_files)
    for entry in (entry for entry in json.loads(listed.stdout) if "mdns" in entry["sources"]):
        assert entry["address"] == f"ssh://{board.address}"
        scraped = desk.run("-c", read, entry["metrics_url"])
        assert "edge_ready 0.0" in scraped.stdout, scraped.stderr
    refused = desk.run(
        "-c", "import socket, sys; socket.create_connection(sys.argv[1:])", board.address, state.rpc_port
    )
    assert refused.returncode == 1 and "ConnectionRefusedError" in refused.stderr
    for options, names in (((), []), (("--discovered",), ["here", "open"])):
        told = desk.run("-c", "from edgectl.cli import main; main()", "sd", "--json", *options, **own_files)
        assert [group["labels"]["__meta_edge_board"] for group in json.loads(told.stdout)] == names, told.stderr


def test_boards_with_one_name_are_both_listed_by_identity(hosts: tuple[Host, Host]) -> None:
    board, desk = hosts
    for _ in range(2):
        board.agent("--name", "pynq")
    found = eventually(desk, lambda now: len(now) == 2)
    assert len({each["identity"] for each in found}) == 2 and [each["name"] for each in found] == ["pynq", "pynq"]


def test_hostile_records(hosts: tuple[Host, Host]) -> None:
    board, desk = hosts

    def record(name: str, *text: str, **changes: Any) -> dict[str, Any]:
        entries = ["txtvers=1", f"id={ID}", "board=pynq", "model=fine", "http=9092", "via=tcp", *text]
        return {
            "name": name,
            "host": f"h{abs(hash(name))}.local.",
            "address": board.address,
            "text": entries,
            **changes,
        }

    board.rogue(
        record("honest"),
        record("twin", address="10.79.0.66"),
        record("bad id", text=["txtvers=1", "id=../../etc/passwd", "board=pynq"]),
        record("no version", text=[f"id={ID}"]),
        record("newer", text=["txtvers=2", f"id={ID}"]),
        record("oversized", *(f"x{number}={'y' * 240}" for number in range(5))),
        record("\x1b[2J\x1b]0;owned\x07"),
        record(
            "colours", text=["txtvers=1", "id=" + "a" * 32, "board=\x1b[31m", "model=\x1b[2J\u202e[red]x", "http=-1"]
        ),
        record("yourself", address="127.0.0.1"),
        record("no port", port=0),
        record("everybody", address="224.0.0.251"),
    )
    found = {each["name"]: each for each in eventually(desk, lambda now: len(now) >= 3)}
    assert set(found) == {"honest", "twin", "colours"}
    assert found["honest"]["identity"] == found["twin"]["identity"] == ID
    assert found["honest"]["address"] != found["twin"]["address"]
    colours = found["colours"]
    assert (colours["kind"], colours["http"]) == ("?", "None") and "[red]x" in colours["model"]
    assert "\x1b" not in colours["model"] and "\u202e" not in colours["model"]
    listed = desk.run("-c", "from edgectl.cli import main; main()", "boards")
    assert listed.returncode == 0, listed.stderr
    assert "\x1b" not in listed.stdout and "\x07" not in listed.stdout and "[red]x" in listed.stdout
    assert listed.stdout.count("its id twice: one is not what it says") == 2
    refused = desk.run("-c", "from edgectl.cli import main; main()", "status", "--board", ID)
    assert refused.returncode == 2 and "several boards announce themselves" in refused.stderr


def test_a_flood_of_records_is_bounded(hosts: tuple[Host, Host]) -> None:
    board, desk = hosts
    text = ["txtvers=1", "board=pynq", "via=tcp"]
    board.rogue(
        *(
            {"name": f"n{number}", "host": "h.local.", "address": board.address, "text": [*text, f"id={number:032x}"]}
            for number in range(400)
        )
    )
    assert 0 < len(desk.browse(4)) <= 256
