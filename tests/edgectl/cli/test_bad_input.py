"""Bad input: one clear message on standard error, the right exit code, nothing on standard output, no file left."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_agent.boards import profile_names
from edgectl.cli.application import verb_functions
from edgectl.errors import IncompatibleError
from edgectl.frontends.zoo import DATA
from edgectl.images import DEFAULT_IMAGE
from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl, Result

DEMO = "resnet20_cifar10"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The prefix of a checkpoint that a test may damage."""
    for suffix in ("-symbol.json", "-0000.params"):
        shutil.copy(DATA / "models" / f"{DEMO}{suffix}", tmp_path / f"net{suffix}")
    return tmp_path / "net"


def check_refused(result: Result, code: int, *parts: str) -> None:
    assert (result.code, result.out) == (code, ""), result.err
    for part in parts:
        assert part in result.err
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("verb", ["deploy", "compile", "bench"])
def test_unknown_model(edgectl: Edgectl, verb: str) -> None:
    check_refused(
        edgectl(verb, "resnet18-v1"), 2, "unknown model 'resnet18-v1'; did you mean resnet18_v1", "`edgectl models`"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("deploy {demo} --batch 0", 2, "greater than or equal to 1"),
        ("deploy {demo} --batch 100000", 2, "--batch 100000 must be 1 to 256"),
        ("deploy {demo} --batch one", 2, "--batch"),
        ("deploy {demo} --top 0", 2, "--top"),
        ("bench {demo} --number 0", 2, "--number"),
        ("bench {demo} --repeat -1", 2, "--repeat"),
        ("deploy {demo} --mean 0.5,x,0.5 --std 1,1,1", 2, "--mean 0.5,x,0.5: give numbers"),
        ("deploy {demo} --mean nan --std 1", 2, "--mean nan: give numbers"),
        ("deploy {demo} --mean 0 --std inf", 2, "--std inf: give numbers"),
        ("deploy {demo} --mean 0 --std 0", 2, "positive"),
        ("deploy {demo} --mean 0,0 --std 1,1", 2, "--mean has 2 and --std 2 numbers, the model's input 3 channels"),
        ("deploy {demo} --mean 0.5", 2, "give --mean and --std together"),
        ("deploy {demo} --shape 3,32", 2, "--shape 3,32: give C,H,W"),
        ("deploy {demo} --shape 3,a,b", 2, "--shape 3,a,b: give C,H,W"),
        ("deploy {demo} --shape 3,0,32", 2, "--shape 3,0,32: give C,H,W"),
        ("deploy {demo} --shape 3,99999999,99999999", 2, "at most 67,108,864"),
        ("deploy {demo} --shape 1,32,32", 1, "layer 'resnet20cifar10_conv0_fwd'"),
        ("deploy {demo} --labels /nowhere", 2, "cannot read --labels /nowhere"),
        ("deploy {demo} --weights /nowhere.params", 2, "--weights /nowhere.params: no such file"),
        ("deploy {demo} --calibration /nowhere", 2, "there is no file /nowhere"),
        ("deploy {demo} --input /nowhere.jpg", 2, "there is no image /nowhere.jpg"),
        ("deploy nowhere/net", 1, "cannot read nowhere/net-symbol.json"),
        ("deploy nowhere.bundle", 2, "cannot read bundle 'nowhere.bundle'"),
        ("deploy {demo} --board nowhere", 2, "there is no board 'nowhere'; kinds of board are de10nano, "),
        ("deploy {demo} --board pynq", 2, "edgectl compile MODEL --board pynq"),
        ("deploy {demo} --board localhost:99999", 2, "'localhost:99999' is not HOST:PORT"),
        ("deploy {demo} --board 127.0.0.1:1", 3, "no agent answers at 127.0.0.1:1: Connection refused"),
        ("stop --board 127.0.0.1:1", 2, "only simulated boards"),
        ("compile {demo} -o .", 2, "--output . is a folder"),
        ("inspect /nowhere", 2, "cannot read /nowhere: No such file"),
        ("inspect .", 2, "cannot read .: Is a directory"),
        ("evaluate {demo} --data /nowhere.npz", 2, "there is no file /nowhere.npz"),
        ("evaluate {demo} --data x.npz --limit 0", 2, "--limit"),
        ("evaluate {demo} --data x.npz --layers -1", 2, "--layers"),
        ("deploy {demo} --data /nowhere.npz", 2, "there is no file /nowhere.npz"),
        ("deploy {demo} --min-agreement 0.9", 2, "needs images to measure on: --data"),
        ("compile {demo} --min-agreement 98 --data x.npz", 2, "must be 0 to 1, such as 0.98"),
    ],
)
def test_wrong_arguments(edgectl: Edgectl, arguments: str, code: int, message: str) -> None:
    check_refused(edgectl(*arguments.format(demo=DEMO).split()), code, message)


@pytest.mark.parametrize("target", ["tsim", "intelfocl"])
@pytest.mark.parametrize("verb", ["deploy", "compile"])
def test_targets_not_there_yet_fail_by_name(edgectl: Edgectl, verb: str, target: str) -> None:
    result = edgectl(verb, DEMO, "--board", target)
    check_refused(
        result,
        IncompatibleError.exit_code,
        f"target '{target}' is not supported yet; supported are {', '.join(profile_names())}",
    )


def test_a_checkpoint_without_a_shape(edgectl: Edgectl, checkpoint: Path) -> None:
    symbol = Path(f"{checkpoint}-symbol.json")
    document = json.loads(symbol.read_text())
    for node in document["nodes"]:
        if node["name"] == "data":
            node.pop("attrs", None)
    symbol.write_text(json.dumps(document))
    check_refused(edgectl("deploy", checkpoint), 1, "the shape of 'data'", "--shape 3,224,224")


@pytest.mark.parametrize("suffix", ["-symbol.json", "-0000.params"])
def test_a_missing_file_of_a_checkpoint(edgectl: Edgectl, checkpoint: Path, suffix: str) -> None:
    Path(f"{checkpoint}{suffix}").unlink()
    check_refused(edgectl("compile", f"{checkpoint}-symbol.json"), 1, f"net{suffix}", "give ")


@pytest.mark.parametrize("suffix", ["-symbol.json", "-0000.params"])
@pytest.mark.parametrize("part", [0.0, 1e-5, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.99999])
def test_a_truncated_file_of_a_checkpoint(edgectl: Edgectl, checkpoint: Path, suffix: str, part: float) -> None:
    path = Path(f"{checkpoint}{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    check_refused(edgectl("compile", checkpoint), 1, "error: ", path.name)


@pytest.mark.parametrize("suffix", ["-symbol.json", "-0000.params"])
@pytest.mark.parametrize(
    "content", [b"\0" * 100, b"\xff" * 100, b"[" * 100_000, b"{}", b"null", b"PK\x03\x04 nonsense"]
)
def test_garbage_for_a_checkpoint(edgectl: Edgectl, checkpoint: Path, suffix: str, content: bytes) -> None:
    Path(f"{checkpoint}{suffix}").write_bytes(content)
    check_refused(edgectl("compile", checkpoint), 1, "error: ", f"net{suffix}")


@pytest.mark.parametrize("offset", [*range(0, 56, 5), 60])
def test_flipped_bits_in_a_checkpoints_headers(edgectl: Edgectl, checkpoint: Path, offset: int) -> None:
    path = Path(f"{checkpoint}-0000.params")
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x81
    path.write_bytes(content)
    result = edgectl("compile", checkpoint, "--shape", "3,32,32", "-o", "out.bundle")
    assert result.code in (0, 1)  # a bit of a reserved field or of a weight means nothing to anybody
    assert (result.code == 0) == Path("out.bundle").exists()
    assert result.code == 0 or "net-0000.params" in result.err or "layer '" in result.err


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", DEFAULT_IMAGE.read_bytes()[:2000], b"\xff\xd8\xff\xe0" + b"\0" * 100, b"GIF89a"],
    ids=["empty", "text", "truncated", "zeros", "header"],
)
@pytest.mark.parametrize("verb", ["run", "deploy"])
def test_unreadable_images(
    edgectl: Edgectl, demo_board: SimulatedBoard, tmp_path: Path, verb: str, content: bytes
) -> None:
    before = edgectl("status", "--json").document["live"]
    image = tmp_path / "photo.jpg"
    image.write_bytes(content)
    # Another model, so that going live would show.
    arguments = [image] if verb == "run" else [DEMO, "--shape", "3,48,48", "--input", image]
    check_refused(edgectl(verb, *arguments), 2, "cannot read ", "photo.jpg as an image")
    assert edgectl("status", "--json").document["live"] == before


def test_a_folder_for_an_image(edgectl: Edgectl, demo_board: SimulatedBoard, tmp_path: Path) -> None:
    check_refused(edgectl("run", tmp_path), 2, "Is a directory")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no array 'x'"),
        ({"y": [1]}, "has no array 'x' (it has y)"),
        ({"x": np.zeros((0, 32, 32, 3), np.uint8), "y": np.zeros(0, int)}, "has 0 images and 0 labels"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": [1]}, "has 2 images and 1 labels"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": [0, 10]}, "labels are 0 to 10, the model has classes 0 to 9"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": [-1, 0]}, "labels are -1 to 0"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": [0.5, 1]}, "it must be integer (N)"),
        ({"x": np.zeros((2, 32, 32, 3)), "y": [0, 1]}, "it must be uint8 (N, H, W, C), float32 (N, C, H, W)"),
        ({"x": np.zeros((2, 32, 32), np.uint8), "y": [0, 1]}, "it must be uint8"),
        ({"x": np.zeros((2, 32, 32, 4), np.uint8), "y": [0, 1]}, "the model takes 3 channels"),
        ({"x": np.zeros((2, 3, 16, 16), np.float32), "y": [0, 1]}, "float32[1, 3, 16, 16], the model's input is"),
        ({"x": np.full((2, 3, 32, 32), np.nan, np.float32), "y": [0, 1]}, "values that are not numbers"),
        ({"x": np.array([{}]), "y": [0]}, "cannot read"),
    ],
)
def test_data_that_does_not_fit(
    edgectl: Edgectl, tmp_path: Path, arrays: dict[str, np.ndarray], message: str, demo_bundle: Path
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    check_refused(edgectl("evaluate", DEMO, "--data", path), 2, message)
    check_refused(edgectl("evaluate", demo_bundle, "--data", path), 2, message)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage"])
def test_data_that_is_no_archive(edgectl: Edgectl, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    check_refused(edgectl("evaluate", DEMO, "--data", path), 2, f"cannot read {path} as .npz")


def test_calibration_without_images(edgectl: Edgectl, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    check_refused(edgectl("compile", DEMO, "--calibration", folder), 2, "there are no images in")
    (folder / "a.jpg").write_bytes(b"text")
    check_refused(edgectl("compile", DEMO, "--calibration", folder), 2, "a.jpg as an image")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_bundles(edgectl: Edgectl, demo_bundle: Path, tmp_path: Path, part: float) -> None:
    content = demo_bundle.read_bytes()
    path = tmp_path / "cut.bundle"
    path.write_bytes(content[: int(len(content) * part)])
    check_refused(edgectl("deploy", path), 5, "not an edgectl bundle, or a damaged one")
    check_refused(edgectl("inspect", path), 5, "not an edgectl bundle, or a damaged one")


def test_flipped_bits_in_a_bundle(edgectl: Edgectl, demo_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.bundle"
    with zipfile.ZipFile(demo_bundle) as archive:
        starts = [(entry.header_offset + 30 + len(entry.filename), entry.compress_size) for entry in archive.infolist()]
    for start, length in starts:
        content = bytearray(demo_bundle.read_bytes())
        content[start + length // 2] ^= 0x10
        path.write_bytes(content)
        check_refused(edgectl("inspect", path), 5)
        check_refused(edgectl("evaluate", path, "--data", "none.npz"), 5)


def test_a_bundle_of_another_schema(edgectl: Edgectl, demo_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "next.bundle"
    with zipfile.ZipFile(demo_bundle) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, "schema": 99, "members": {}}))
    check_refused(edgectl("deploy", path), 4, "bundle schema 99, this agent reads 1", "compile the model again")


def test_a_bundle_for_another_board(edgectl: Edgectl, own_board: SimulatedBoard, tmp_path: Path) -> None:
    path = tmp_path / "pynq.bundle"
    assert edgectl("compile", DEMO, "--board", "pynq", "-o", path).code == 0
    result = edgectl("deploy", path)
    check_refused(result, 4, "the bundle's kernels are for armv7l, this board is ", "edgectl compile resnet20_cifar10")
    assert own_board.find() is None


def test_options_that_cannot_apply(edgectl: Edgectl, demo_board: SimulatedBoard, demo_bundle: Path) -> None:
    check_refused(
        edgectl("deploy", demo_bundle, "--batch", "4", "--mean", "0", "--std", "1"), 2, "--mean, --std, --batch"
    )
    check_refused(edgectl("bench", "--weights", "random"), 2, "--weights needs MODEL")


def test_an_unusable_cache(edgectl: Edgectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "file" / "cache"))
    result = edgectl("compile", "resnet18_v1", "--weights", "pretrained")
    check_refused(result, 1, "cannot keep weights in", "EDGECTL_CACHE")


def test_an_unusable_state_directory(edgectl: Edgectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "file" / "state"))
    check_refused(edgectl("deploy", DEMO), 1, "EDGECTL_STATE")


def test_an_unwritable_output(edgectl: Edgectl) -> None:
    check_refused(
        edgectl("compile", DEMO, "-o", "/proc/nowhere/out.bundle"), 1, "cannot write /proc/nowhere/out.bundle"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--"],
        ["\0"],
        ["deploy", "\0"],
        ["deploy", "\ud800"],
        ["deploy", ""],
        ["deploy", "a" * 5000],
        ["deploy", DEMO, DEMO],
        ["deploy", DEMO, "--shape", "9" * 400],
        ["deploy", DEMO, "--board", ":"],
        ["deploy", DEMO, "--board", "x:0"],
        ["run", "--input", "\0"],
        ["inspect", "\0"],
        ["evaluate", "--data", "\0", DEMO],
        ["compile", DEMO, "-o", "\0"],
        *([verb, "--no-such-option"] for verb in verb_functions()),
        *([verb, "--json=maybe"] for verb in verb_functions()),
    ],
)
def test_nonsense_is_refused_politely(edgectl: Edgectl, demo_board: SimulatedBoard, arguments: list[str]) -> None:
    result = edgectl(*arguments)
    assert result.code in (1, 2) and result.err and "defect of edgectl" not in result.err, result.err
