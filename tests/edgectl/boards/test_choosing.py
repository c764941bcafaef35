"""Which board a name means."""

from __future__ import annotations

import pytest

from edge_agent.boards import profile_names
from edgectl.boards.choosing import NOT_YET, RemoteChoice, SimulatedChoice, check_profile, choose
from edgectl.boards.client import Address
from edgectl.errors import IncompatibleError, UnreachableError, UsageError
from edgectl.simulated_board import SimulatedBoard


def test_the_simulated_board(own_board: SimulatedBoard) -> None:
    choice = choose("sim")
    assert isinstance(choice, SimulatedChoice) and choice.simulated.profile == "sim"
    with pytest.raises(UnreachableError, match="edgectl deploy MODEL"):
        choice.running()
    running = own_board.ensure()
    assert choice.running().state == running.state


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("board.local:9091", Address("board.local", 9091)),
        ("192.168.2.99:1", Address("192.168.2.99", 1)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_addresses(name: str, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_KEY", "pynq:secret")
    assert choose(name) == RemoteChoice(address, "pynq:secret")
    assert choose(name, "other") == RemoteChoice(address, "other")
    monkeypatch.delenv("EDGECTL_KEY")
    assert choose(name) == RemoteChoice(address, "")


@pytest.mark.parametrize("name", [":", "host:", ":9091", "host:0", "host:65536", "host:port", "host:-1", "host:٣"])
def test_what_is_no_address(name: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        choose(name)


@pytest.mark.parametrize("name", NOT_YET)
def test_targets_not_there_yet(name: str) -> None:
    for function in (choose, check_profile):
        with pytest.raises(
            IncompatibleError, match=f"target '{name}' is not supported yet; supported are {', '.join(profile_names())}"
        ):
            function(name)


@pytest.mark.parametrize("name", ["", "Sim", "../sim", "pynq "])
def test_what_is_no_board(name: str) -> None:
    with pytest.raises(UsageError, match="there is no board"):
        choose(name)


def test_a_kind_of_board_is_not_a_board() -> None:
    assert check_profile("pynq") == "pynq"
    with pytest.raises(UsageError, match="--board HOST:PORT"):
        choose("pynq")
