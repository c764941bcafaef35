"""`edgectl report` and `edgectl compile --report`."""

from __future__ import annotations

from pathlib import Path

from edgectl.building import Build
from tests.edgectl.cli.conftest import Edgectl

DEMO = "resnet20_cifar10"


def test_the_page_is_beside_the_bundle(edgectl: Edgectl, demo_build: Build, tmp_path: Path) -> None:
    bundle = tmp_path / "demo.bundle"
    bundle.write_bytes(demo_build.data)
    result = edgectl("report", bundle)
    assert (result.code, result.out, result.err) == (0, f"{tmp_path / 'demo.html'}\n", "")
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert all(name in page for name in demo_build.manifest["layers"]["vta"])
    assert edgectl("report", bundle, "-o", "other.html").out == "other.html\n"
    assert Path("other.html").read_text(encoding="utf-8") == page


def test_json(edgectl: Edgectl, demo_bundle: Path, demo_build: Build) -> None:
    result = edgectl("report", demo_bundle, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.document["predicted"] == demo_build.manifest["predicted"]
    assert result.document["counters"] == demo_build.manifest["counters"]
    assert not demo_bundle.with_suffix(".html").exists()
    edgectl("report", demo_bundle, "--json", "-o", "page.html")
    assert Path("page.html").is_file()


def test_compile_writes_the_page_too(edgectl: Edgectl) -> None:
    result = edgectl("compile", DEMO, "-o", "demo.bundle", "--report", "compiled.html")
    assert result.code == 0 and "compiled.html" in result.out
    edgectl("report", "demo.bundle")
    assert Path("demo.html").read_bytes() == Path("compiled.html").read_bytes()


def test_wrong_use(edgectl: Edgectl, demo_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for arguments in (
        ("report", "absent.bundle"),
        ("report", demo_bundle, "-o", folder),
        ("compile", DEMO, "--report", folder),
    ):
        result = edgectl(*arguments)
        assert result.code == 2 and result.err.startswith("error: ")
    (tmp_path / "damaged.bundle").write_bytes(demo_bundle.read_bytes()[:1000])
    assert edgectl("report", tmp_path / "damaged.bundle").code == 5
    assert not (tmp_path / "damaged.html").exists()
