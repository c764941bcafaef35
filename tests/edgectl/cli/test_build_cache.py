"""What verbs say and do where nothing has changed since the last compile."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl, in_process_of_its_own
from tests.edgectl.cli.test_terminal import ESCAPE, on_terminal

DEMO = "resnet20_cifar10"
UNCHANGED = r"unchanged since \d{4}-\d\d-\d\d \d\d:\d\d, taken from the cache"


def test_compile_says_so(edgectl: Edgectl) -> None:
    first = edgectl("compile", DEMO, "-o", "one.bundle")
    second = edgectl("compile", DEMO, "-o", "two.bundle")
    assert (first.code, second.code) == (0, 0)
    assert re.search(r", compiled in \d+\.\d s\n", first.out) and "cache" not in first.out
    assert re.search(rf", {UNCHANGED} in \d+\.\d s\n", second.out)
    assert Path("one.bundle").read_bytes() == Path("two.bundle").read_bytes()
    # All the rest is the same, warnings too.
    assert second.err == first.err
    assert second.out.splitlines()[1:] == [line.replace("one.", "two.") for line in first.out.splitlines()[1:]]


def test_json_says_so(edgectl: Edgectl) -> None:
    first, second = (edgectl("compile", DEMO, "--json").document for _ in range(2))
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert set(first.pop("timings")) > set(second.pop("timings")) - {"look in the cache"} == {"import"}
    assert first == second


def test_no_cache(edgectl: Edgectl, tmp_path: Path) -> None:
    assert edgectl("compile", DEMO, "--no-cache", "--json").document["cached"] is False
    assert not (tmp_path / "cache" / "builds").exists()
    assert edgectl("compile", DEMO, "--json").document["cached"] is False
    again = edgectl("compile", DEMO, "--no-cache", "--json").document
    assert again["cached"] is False and "quantize" in again["timings"]
    assert "look in the cache" not in again["timings"]


def test_other_options_compile_anew(edgectl: Edgectl) -> None:
    edgectl("compile", DEMO)
    np.savez("images.npz", x=np.zeros((2, 32, 32, 3), np.uint8))
    for options in (
        ("--batch", "2"),
        ("--board", "pynq"),
        ("--calibration", "images.npz"),
    ):
        assert edgectl("compile", DEMO, *options, "--json").document["cached"] is False, options
        assert edgectl("compile", DEMO, *options, "--json").document["cached"] is True, options


def test_a_damaged_entry_is_told(edgectl: Edgectl, tmp_path: Path) -> None:
    edgectl("compile", DEMO)
    (entry,) = (tmp_path / "cache" / "builds").iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    result = edgectl("compile", DEMO, "--json")
    assert result.document["cached"] is False and result.code == 0
    assert f"note: the cached bundle {entry} is damaged: compiled again, and replaced" in result.err
    assert edgectl("compile", DEMO, "--json").document["cached"] is True


def test_a_hit_does_without_tvm(edgectl: Edgectl) -> None:
    code = (
        "import sys; from edgectl.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'tvm', 'ziglang', 'edgectl.codegen.cpu.compiler'} & {*sys.modules})); sys.exit(code)"
    )
    edgectl("compile", DEMO)
    result = in_process_of_its_own("compile", DEMO, code=code)
    assert result.code == 0 and "taken from the cache" in result.out
    assert result.out.splitlines()[-1] == "[]"


def test_the_stage_says_so_on_a_terminal(edgectl: Edgectl) -> None:
    edgectl("compile", DEMO)
    shown = ESCAPE.sub("", on_terminal(["compile", DEMO], columns=120))
    assert re.search(rf"✓ look in the cache: {UNCHANGED} +\d+\.\d s", shown)


def test_deploy_and_bench(edgectl: Edgectl, session_board: SimulatedBoard) -> None:
    bundle = edgectl("compile", DEMO, "--json").document["bundle"]
    for command in (("deploy", DEMO), ("bench", DEMO, "--number", "1", "--repeat", "1")):
        hit = edgectl(*command, "--json").document
        assert hit["cached"] is True and hit["bundle"] == bundle and hit["top"][0]["label"] == "cat"
        anew = edgectl(*command, "--no-cache", "--json").document
        assert anew["cached"] is False and anew["bundle"] == bundle and "quantize" in anew["timings"]
    assert edgectl("deploy", "resnet20_cifar10.bundle", "--json").document["cached"] is False
