"""The modelled FPGA manager: the states that the kernel's shows, and what it takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.register_model.fpga_manager import ModelledManager
from tests.edge_agent.fpga.bitfiles import configuration, swapped

GOOD = swapped(configuration())


class Files:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("state", "firmware"):
            (root / name).write_text("")
        self.told: list[str] = []
        self.manager = ModelledManager(root, root, profile("pynq").fpga, lambda: self.told.append(self.state))

    @property
    def state(self) -> str:
        return (self.root / "state").read_text().strip()

    def ask(self, name: str) -> str:
        (self.root / "firmware").write_text(name)
        self.manager.step()
        assert (self.root / "firmware").read_text() == "", "it was taken"
        return self.state


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_good_image(files: Files) -> None:
    files.manager.step()
    assert files.state == "" and files.manager.loaded == ""
    (files.root / "vta.bin").write_bytes(GOOD)
    assert files.ask("vta.bin") == "operating"
    assert files.manager.loaded == hashlib.sha256(GOOD).hexdigest()
    assert files.told == ["write"], "the core is new before anybody hears of it"


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (None, "firmware request error"),
        (b"", "write init error"),
        (configuration(), "write init error"),
        (GOOD[:-1], "write init error"),
        (b"\xff\xff" + GOOD[:-2], "write init error"),
        (GOOD[:-4], "write complete error"),
        (swapped(configuration(idcode=0x04710093)), "write complete error"),
    ],
)
def test_images_that_are_none(files: Files, data: bytes | None, state: str) -> None:
    if data is not None:
        (files.root / "vta.bin").write_bytes(data)
    assert files.ask("vta.bin") == state
    assert files.told == [] and files.manager.loaded == ""
    (files.root / "good.bin").write_bytes(GOOD)
    assert files.ask("good.bin") == "operating"


def test_no_way_out_of_the_folder_of_images(files: Files, tmp_path: Path) -> None:
    (tmp_path.parent / "outside.bin").write_bytes(GOOD)
    assert files.ask("../outside.bin") == "firmware request error"


def test_an_fpga_that_takes_nothing(files: Files) -> None:
    (files.root / "vta.bin").write_bytes(GOOD)
    broken = ModelledManager(files.root, files.root, profile("pynq").fpga, takes_images=lambda: False)
    files.manager = broken
    assert files.ask("vta.bin") == "write complete error" and broken.loaded == ""
