"""`flash` from end to end, on a modelled board in processes of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.devices.zynq_model import FOLDER
from edge_agent.register_model.files import QUIRKS, ROOT
from edge_agent.register_model.quirks import Quirks
from edgectl.boards.board import Board
from edgectl.building import build
from edgectl.cli import main
from edgectl.errors import IncompatibleError, UsageError, VerificationError
from edgectl.flashing import flash, flash_over_ssh
from edgectl.simulated_board import SimulatedBoard
from edgectl.stages import Stages
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edgectl.quantization.networks import NETWORKS

MODEL = "pynq-model"


@pytest.fixture
def modelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBoard]:
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))
    board = SimulatedBoard(MODEL)
    yield board
    board.stop()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Bitstreams of the right form."""
    paths = []
    for seed in range(3):
        paths.append(str(tmp_path / f"vta-{seed}.bit"))
        Path(paths[-1]).write_bytes(bit_file(configuration(seed=seed)))
    return paths


def test_a_board_from_its_first_flash_to_a_bad_one(
    modelled: SimulatedBoard, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modelled.ensure()
    stages = Stages()
    report = flash(MODEL, files[0], stages=stages)
    assert report.previous is None and report.self_test is not None and len(report.self_test["cases"]) == 8
    assert set(report.board_seconds) == {"program", "self-test"} and "program and self-test" in stages.seconds
    assert len(report.notices) == 2 and "configuration" in report.notices[0]

    built = build(NETWORKS["residual"](), MODEL)
    with Board(MODEL, start=False) as board:
        board.deploy(built)

    # A deploy to an FPGA that is not programmed is refused before anything is sent.
    state = modelled.directory / "state" / FOLDER / ROOT / "sys" / "class" / "fpga_manager" / "fpga0" / "state"
    state.write_text("power off\n")
    with Board(MODEL, start=False) as board, pytest.raises(IncompatibleError, match="state of the FPGA is power off"):
        board.deploy(built)
    state.write_text("operating\n")

    # Another one, with the model live on top of it.
    assert main(["flash", MODEL, "--bitstream", files[1], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["previous"]["id"] == "vta-0.bit" and document["bitstream"]["id"] == "vta-1.bit"
    assert {check["subject"] for check in document["checks"]} == {"agent", "board", "image", "bitstream", "model"}
    with Board(MODEL, start=False) as board:
        status = board.status()
        assert status["ready"] and status["fpga"]["bitstream"]["id"] == "vta-1.bit"
    assert main(["boards", "--no-discovery", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries[MODEL]["bitstream"] == "vta-1.bit"

    # One whose core computes wrongly: the one before comes back, and the model still runs.
    flawed = hashlib.sha256(swapped(configuration(seed=2))).hexdigest()
    Quirks(flip=3, flawed=flawed).write(modelled.directory / "state" / FOLDER / QUIRKS)
    with pytest.raises(VerificationError, match=r"self-test of .* is wrong in .*; .* vta-1.bit, is back and passes"):
        flash(MODEL, files[2])
    assert main(["flash", MODEL, "--bitstream", files[2]]) == VerificationError.exit_code
    assert "vta-1.bit, is back" in capsys.readouterr().err
    with Board(MODEL, start=False) as board:
        status = board.status()
        assert status["ready"] and status["fpga"]["bitstream"]["id"] == "vta-1.bit" and not status["fpga"]["problem"]
        board.connection.bench(1, 1)

    # The board is switched off and on: the agent programs what was there.
    modelled.stop()
    with Board(MODEL) as board:
        status = board.status()
        assert status["ready"] and status["fpga"]["bitstream"]["id"] == "vta-1.bit"


def test_nothing_is_touched_where_something_does_not_fit(
    modelled: SimulatedBoard, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modelled.ensure()
    wrong = tmp_path / "wrong.bit"
    wrong.write_bytes(bit_file(configuration(idcode=None), "7z010clg400"))
    for arguments, code, message in (
        ([str(wrong)], 4, "bitstream: device is 7z010clg400, it must be 7z020"),
        ([files[0], "--isa", "0.0.1"], 4, "instruction set is 0.0.1, it must be 0.0.2; take the published one"),
        ([files[0], "--config", "4x8_i8w8a32_15_16_16_18"], 4, "configuration is 4x8_i8w8a32_15_16_16_18"),
        ([str(tmp_path / "none.bit")], 2, "No such file"),
        (["none"], 4, "no bitstream 'none' in the catalogue"),
        ([files[0], "--type", "pynq"], 2, "--type KIND goes with USER@HOST"),
    ):
        assert main(["flash", MODEL, "--bitstream", *arguments]) == code
        captured = capsys.readouterr()
        assert message in captured.err and captured.out == ""
    assert main(["flash", MODEL, "--bitstream", files[0], "--dry-run"]) == 0
    assert "vta-0.bit was not programmed (dry run)" in capsys.readouterr().out
    with Board(MODEL, start=False) as board:
        assert board.status()["fpga"]["bitstream"] is None
    assert not list((modelled.directory / "state" / "bitstreams").iterdir())


def test_boards_without_an_fpga_are_not_even_started(modelled: SimulatedBoard) -> None:
    with pytest.raises(IncompatibleError, match=r"board 'sim' .* has no FPGA to program"):
        flash("sim", "vta.bit")
    assert SimulatedBoard("sim").find() is None
    with pytest.raises(IncompatibleError, match="target 'intelfocl' is not supported yet"):
        flash("intelfocl")


def test_boards_that_cannot_be_programmed_over_ssh_fail_by_name(files: list[str]) -> None:
    with pytest.raises(IncompatibleError, match=r"way of programming is socfpga_registers.*not implemented"):
        flash_over_ssh("root@127.0.0.1:1", "de10nano", files[0])
    with pytest.raises(IncompatibleError, match="no bitstream is published for board 'zcu104'"):
        flash_over_ssh("root@127.0.0.1:1", "zcu104")
    with pytest.raises(UsageError, match="there is no board 'moon'"):
        flash_over_ssh("root@127.0.0.1:1", "moon", files[0])
