"""What boards say, what kind they are, and what they lack."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.boards import profile
from edgectl.boards.remote_shell import Completed
from edgectl.errors import EdgectlError, IncompatibleError, UsageError
from edgectl.preflight import require
from edgectl.provisioning.facts import (
    Facts,
    device_notices,
    gather,
    install_checks,
    kind_of,
    parse,
    require_space,
    version_numbers,
)

SAID = {
    "user": "xilinx",
    "host": "pynq",
    "machine": "armv7l",
    "root": "yes",
    "systemd": "yes",
    "useradd": "yes",
    "free": "8000000",
    "tree": "xlnx,zynq-7000 ",
    "uio": "4",
    "dma": "yes",
    "python": "3.10.4",
    "implementation": "CPython",
    "libc": "glibc 2.35",
    "bits": "32",
    "venv": "yes",
    "numpy": "1.21.5",
}
PYNQ = parse(SAID)
"""An image of PYNQ 3.0."""


class Answering:
    """A shell that gives one answer."""

    def __init__(self, output: str, errors: str = "") -> None:
        self.answer = Completed(0, output, errors)

    def run(self, command: str, seconds: float = 60.0) -> Completed:
        return self.answer

    def put(self, data: bytes, path: str) -> None:
        raise AssertionError


def failed(facts: Facts, board: str = "pynq") -> list[str]:
    return [check.what for check in install_checks(facts, profile(board)) if not check.fits]


def test_a_good_board() -> None:
    assert gather(Answering("".join(f"{name}\t{text}\n" for name, text in SAID.items()))) == PYNQ
    assert str(PYNQ.platform) == "armv7l-3.10" and PYNQ.platform.libc == (2, 35) and PYNQ.free_bytes == 8_000_000 << 10
    assert failed(PYNQ) == [] and device_notices(PYNQ, profile("pynq")) == ()


def test_32_bit_programs_on_a_64_bit_kernel() -> None:
    assert parse({**SAID, "machine": "aarch64"}).machine == "armv7l"
    assert parse({**SAID, "machine": "aarch64", "bits": "64"}).machine == "aarch64"


@pytest.mark.parametrize(
    ("changed", "what", "repair"),
    [
        ({"numpy": ""}, "NumPy", "sudo apt-get install python3-numpy"),
        ({"numpy": "1.19.5"}, "NumPy", "sudo apt-get install python3-numpy"),
        ({"numpy": "3.0.0"}, "NumPy", "sudo apt-get install python3-numpy"),
        ({"python": "3.8.10"}, "Python", "the maker's current image"),
        ({"python": "3.10.1", "implementation": "PyPy"}, "Python", "sudo apt-get install python3"),
        ({"venv": ""}, "venv module", "sudo apt-get install python3-venv"),
        ({"root": ""}, "right to install", "NOPASSWD"),
        ({"systemd": ""}, "systemd", "an image that systemd starts"),
        ({"useradd": ""}, "useradd", "sudo apt-get install passwd"),
        ({"machine": "aarch64", "bits": "64"}, "processor", "the right --type"),
    ],
)
def test_what_it_lacks_is_said_with_the_repair(changed: dict[str, str], what: str, repair: str) -> None:
    facts = parse({**SAID, **changed})
    assert failed(facts) == [what]
    with pytest.raises(IncompatibleError) as raised:
        require(install_checks(facts, profile("pynq")))
    assert repair in str(raised.value)


def test_a_board_without_python_lacks_python_and_numpy() -> None:
    facts = parse(
        {name: text for name, text in SAID.items() if name not in ("python", "implementation", "numpy", "venv")}
    )
    assert failed(facts) == ["Python", "NumPy"]


def test_a_board_that_no_agent_drives() -> None:
    assert "accelerator" in failed(PYNQ, "de10nano")


def test_what_answers_is_no_posix_shell() -> None:
    with pytest.raises(IncompatibleError, match="gives no POSIX shell by SSH, it answers 'Welcome to the switch'"):
        gather(Answering("Welcome to the switch\n"))


def test_hostile_answers_are_cut_to_what_can_be_shown() -> None:
    facts = parse({**SAID, "host": "\x1b[31mred" + "x" * 1000, "free": "9" * 5 + "x", "uio": ""})
    assert facts.host.startswith("[31mred") and len(facts.host) == 500 and facts.free_bytes == 0 and not facts.uio


@pytest.mark.parametrize(
    ("tree", "wanted", "kind"),
    [
        ("TUL PYNQ-Z2 xlnx,zynq-7000", "", "pynq-z2"),
        ("Digilent PYNQ Z1 xlnx,zynq-7000", "", "pynq-z1"),
        ("Pynq xlnx,zynq-7000", "", "pynq"),
        ("Avnet Ultra96 Rev1 avnet,ultra96-rev1 xlnx,zynqmp", "", "ultra96"),
        ("ZynqMP ZCU104 RevC xlnx,zynqmp-zcu104-revC", "", "zcu104"),
        ("TUL PYNQ-Z2", "pynq", "pynq"),
        ("xlnx,zynq-7000", "pynq-z2", "pynq-z2"),
        ("", "sim", "sim"),
        ("TUL PYNQ-Z2", "sim", "sim"),
    ],
)
def test_the_kind_of_a_board(tree: str, wanted: str, kind: str) -> None:
    assert kind_of(replace(PYNQ, tree=tree), wanted) == kind


def test_a_kind_that_nobody_says_or_that_is_contradicted() -> None:
    with pytest.raises(
        UsageError, match=r"does not say what kind it is \(device tree: xlnx,zynq-7000\); give --type KIND"
    ):
        kind_of(PYNQ, "")
    with pytest.raises(IncompatibleError, match=r"--type pynq was given, but .* Ultra96 .*: leave --type out, or give"):
        kind_of(replace(PYNQ, tree="Avnet Ultra96 Rev1"), "pynq")


def test_a_full_disk_is_seen_beforehand() -> None:
    require_space(PYNQ, 10 << 20)
    with pytest.raises(EdgectlError, match=r"has 9 MiB free below /opt, the agent needs 74 MiB; make room there"):
        require_space(replace(PYNQ, free_bytes=9 << 20), 10 << 20)


def test_missing_devices_are_no_obstacle_but_said() -> None:
    bare = replace(PYNQ, uio=False, dma_module=False)
    assert [("UIO" in text, "u-dma-buf" in text) for text in device_notices(bare, profile("pynq"))] == [
        (True, False),
        (False, True),
    ]
    assert device_notices(bare, profile("sim")) == ()


def test_versions() -> None:
    assert version_numbers("1.26.0rc1") == (1, 26, 0) and version_numbers("dev") == () and version_numbers("") == ()
