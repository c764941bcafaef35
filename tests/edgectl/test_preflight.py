"""What does not fit together is named, with both values and the repair, before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.boards import profile
from edge_agent.catalogue import catalogue, find_bitstream
from edge_agent.fpga.bitstream import read_image
from edge_agent.version import VERSION
from edgectl.bitstreams import Candidate
from edgectl.errors import IncompatibleError
from edgectl.preflight import (
    Check,
    bitstream_checks,
    board_checks,
    deployment_checks,
    model_checks,
    require,
)
from tests.edge_agent.fpga.bitfiles import PYNQ_BYTES, bit_file, configuration

PYNQ = profile("pynq")
CONFIG, OTHER = PYNQ.config, "4x8_i8w8a32_15_16_16_18"
ADDRESS = "192.168.2.99:9091"


def status(**changes: Any) -> dict[str, Any]:
    image = {"python": "3.10.4", "fpga_manager": "Xilinx Zynq FPGA Manager", "fpga_state": "operating"}
    return {"version": VERSION, "config": CONFIG, "cpu": {"machine": "armv7l"}, "image": image, **changes}


def found(part: str = "7z020clg484", nbytes: int = PYNQ_BYTES, **changes: Any) -> Candidate:
    data = bit_file(configuration(nbytes, changes.pop("idcode", 0x03727093)), part)
    made = Candidate("vta.bit", "vta.bit", data, read_image(data), CONFIG, "0.0.2", None)
    return replace(made, **changes)


def failures(checks: list[Check]) -> list[str]:
    return [str(check) for check in checks if not check.fits]


def test_everything_fits() -> None:
    checks = [*board_checks(status(), PYNQ, ADDRESS), *bitstream_checks(found(), PYNQ, ADDRESS)]
    published = found(entry=find_bitstream(catalogue(), "pynq-0.0.2-1x16"))
    checks += bitstream_checks(published, PYNQ, ADDRESS)
    checks += model_checks({"model": {"name": "resnet18_v1"}, "config": CONFIG, "features": []}, found(), PYNQ, ADDRESS)
    assert failures(checks) == [] and model_checks(None, found(), PYNQ, ADDRESS) == []
    assert {check.subject for check in checks} == {"agent", "board", "image", "bitstream", "model"}
    require(checks)


def test_a_board_that_runs_anywhere_may_have_any_processor() -> None:
    assert failures(board_checks(status(), replace(PYNQ, cpu="host"), ADDRESS)) == []


IMAGE = status()["image"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9.9"}, f"agent: version is 9.9, it must be {VERSION}; install the same version of edgectl"),
        ({"config": OTHER}, f"board: configuration is {OTHER}, it must be {CONFIG}; give the agent"),
        ({"cpu": {"machine": "aarch64"}}, "board: processor is aarch64, it must be armv7l"),
        (
            {"image": {**IMAGE, "python": "3.8.2"}},
            "image: Python is 3.8.2, it must be 3.10 or later; write a newer image",
        ),
        ({"image": {**IMAGE, "python": ""}}, "image: Python is not known"),
        (
            {"image": {**IMAGE, "fpga_manager": "Xilinx ZynqMP FPGA Manager"}},
            "image: FPGA manager is Xilinx ZynqMP FPGA Manager, it must be Xilinx Zynq FPGA Manager",
        ),
    ],
)
def test_boards_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    (failure,) = failures(board_checks(status(**changes), PYNQ, ADDRESS))
    assert failure.startswith(message)


@pytest.mark.parametrize(
    ("bitstream", "message"),
    [
        (
            found("7z010clg400"),
            "bitstream: device is 7z010clg400, it must be 7z020; take the published one: edgectl flash",
        ),
        (found(idcode=0x0372C093), "bitstream: device is 7z020clg484"),
        (found(nbytes=8192), f"bitstream: length of its data is 8192, it must be {PYNQ_BYTES}"),
        (found(config=OTHER), f"bitstream: configuration is {OTHER}, it must be {CONFIG}"),
        (found(isa="0.0.1"), "bitstream: instruction set is 0.0.1, it must be 0.0.2"),
        (
            found(entry=find_bitstream(catalogue(), "pynq-0.0.1-1x16")),
            "bitstream: features is none, it must be program_across_layers",
        ),
    ],
)
def test_bitstreams_that_do_not_fit(bitstream: Candidate, message: str) -> None:
    (failure,) = failures(bitstream_checks(bitstream, PYNQ, ADDRESS))
    assert failure.startswith(message) and "edgectl flash" in failure


def test_boards_that_cannot_be_programmed() -> None:
    with pytest.raises(IncompatibleError, match=r"board 'sim' .* has no FPGA to program"):
        bitstream_checks(found(), profile("sim"), "sim")
    failed = failures(bitstream_checks(found(), profile("de10nano"), ADDRESS))
    assert failed[0].startswith(
        "board: way of programming is socfpga_registers, it must be fpga_manager; not implemented"
    )


def test_a_model_that_would_not_run_any_more() -> None:
    live = {"model": {"name": "resnet18_v1"}, "config": CONFIG, "features": ["acc_load_padding"]}
    first, second = failures(model_checks(live, found(config=OTHER), PYNQ, ADDRESS))
    assert first == (
        f"model: configuration is {CONFIG}, it must be {OTHER}; compile and deploy it again: "
        f"edgectl deploy resnet18_v1 --board {ADDRESS}"
    )
    assert second.startswith("model: features it needs is acc_load_padding, it must be among program_across_layers")


def test_all_that_fails_is_said_at_once() -> None:
    with pytest.raises(IncompatibleError) as caught:
        require(bitstream_checks(found("7z010clg400", config=OTHER), PYNQ, ADDRESS))
    assert len(str(caught.value).splitlines()) == 2 and caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("fpga", "image", "message"),
    [
        ({"problem": "the flash was interrupted"}, {}, "board: FPGA is the flash was interrupted"),
        (
            {},
            {"fpga_state": "unknown"},
            "board: state of the FPGA is unknown, it must be operating; program it: edgectl",
        ),
        ({"bitstream": {"config": OTHER}}, {}, f"bitstream: configuration is {OTHER}, it must be {CONFIG}"),
    ],
)
def test_deploys_that_would_fail(fpga: dict[str, Any], image: dict[str, str], message: str) -> None:
    good = status(fpga={"bitstream": {"config": CONFIG}, "problem": "", **fpga}, image={**IMAGE, **image})
    (failure,) = failures(deployment_checks({"config": CONFIG}, good, ADDRESS))
    assert failure.startswith(message) and failure.endswith(f"edgectl flash {ADDRESS}")


def test_deploys_to_agents_that_say_nothing_of_their_fpga() -> None:
    assert deployment_checks({"config": CONFIG}, status(), ADDRESS) == []
    silent = status(fpga={"bitstream": None, "problem": ""}, image={})
    assert failures(deployment_checks({"config": CONFIG}, silent, ADDRESS)) == []
