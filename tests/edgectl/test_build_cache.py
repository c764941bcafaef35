"""Bundles of earlier builds: found by everything they depend on, and by nothing else; never a damaged one."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.boards import BoardProfile, profile
from edge_agent.vta.program_file import write_program
from edgectl import build_cache
from edgectl.build_cache import STALE_SECONDS, BuildCache, build_key, content_digest, sources_digest
from edgectl.building import Build, build
from edgectl.graph import Model, Preprocessing
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.stages import Stages
from tests.edgectl.quantization.networks import NETWORKS

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def cache(tmp_path: Path) -> BuildCache:
    return BuildCache(tmp_path / "builds")


def only_entry(cache: BuildCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def damaged(path: Path) -> str:
    return f"the cached bundle {path} is damaged: compiled again, and replaced"


# The key.


def model() -> Model:
    return NETWORKS["residual"]()


def key(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "model": model(),
        "calibration": None,
        "board": profile("sim"),
        "origin": {"source": "here"},
        "options": {"offload": "all"},
    }
    return build_key(**{**arguments, **changes})


def with_other_parameter(original: Model) -> Model:
    """One value of one parameter is changed in its last bit."""
    name = next(iter(original.parameters))
    array = original.parameters[name].copy()
    array.flat[-1] = np.nextafter(array.flat[-1], np.float32(9))
    return replace(original, parameters={**original.parameters, name: array})


def with_other_operator(original: Model) -> Model:
    index, node = next((i, n) for i, n in enumerate(original.nodes) if isinstance(n.operator, Convolution))
    other = replace(node, operator=replace(node.operator, padding=(3, 3, 3, 3)))
    return replace(original, nodes=(*original.nodes[:index], other, *original.nodes[index + 1 :]))


CHANGED_MODELS: Mapping[str, Callable[[Model], Model]] = {
    "parameter": with_other_parameter,
    "operator": with_other_operator,
    "name": lambda m: replace(m, name="other"),
    "labels": lambda m: replace(m, labels=("cat",)),
    "preprocessing": lambda m: replace(m, preprocessing=Preprocessing(9, (8, 8), (0.5,), (0.25,))),
    "batch": lambda m: m.with_batch(2),
    "input": lambda m: replace(m, inputs={**m.inputs, "unused": TensorType((1, 1), "float32")}),
    "outputs": lambda m: replace(m, outputs=(m.nodes[0].name,)),
    "source name": lambda m: replace(m, nodes=(replace(m.nodes[0], source="layer"), *m.nodes[1:])),
    "parameter's dtype": lambda m: replace(m, parameters={n: a.astype(np.float64) for n, a in m.parameters.items()}),
}


def test_the_same_has_the_same_key() -> None:
    assert key() == key()
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    # Only the values count, not how they lie in memory.
    assert key(calibration=images) == key(calibration=np.asfortranarray(images))


@pytest.mark.parametrize("change", CHANGED_MODELS)
def test_a_changed_model_has_another_key(change: str) -> None:
    assert key(model=CHANGED_MODELS[change](model())) != key()


def test_other_arguments_have_other_keys() -> None:
    images = np.zeros((2, 3, 8, 8), np.float32)
    keys = [
        key(),
        key(calibration=images),
        key(calibration=images[:1]),
        key(calibration=images + np.float32(1e-30)),
        key(calibration=images.reshape(3, 2, 8, 8)),
        key(origin={"source": "there"}),
        key(origin={"source": "here", "seed": 0}),
        key(options={"offload": "reference"}),
        key(options={}),
        key(options={"offload": "all", "later": None}),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", [field.name for field in fields(BoardProfile)])
def test_every_field_of_the_board_counts(name: str) -> None:
    board = profile("sim")
    value = getattr(board, name)
    if name in ("hardware", "fpga"):
        other = getattr(profile("pynq-model"), name)
    else:
        other = value + 1 if isinstance(value, int) else value ^ {"x"} if isinstance(value, frozenset) else value + "x"
    assert key(board=replace(board, **{name: other})) != key()


def test_versions_processor_and_sources_count(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key()}
    installed = metadata.version
    for tool in build_cache.TOOLS:
        with monkeypatch.context() as patch:
            patch.setattr(metadata, "version", lambda name, tool=tool: "9.9" if name == tool else installed(name))
            keys.add(key())
    for name, value in (
        ("VERSION", "9.9"),
        ("SOURCES_DIGEST", "edited"),
        ("processor_flags", lambda: frozenset({"avx1024"})),
        ("this_machine", lambda: "riscv64"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(build_cache, name, value)
            keys.add(key())
    assert len(keys) == 1 + len(build_cache.TOOLS) + 4


def test_a_tool_that_is_not_installed_counts_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = key()
    monkeypatch.setattr(build_cache, "TOOLS", ("no-such-distribution",))
    assert key() != usual


def test_an_edit_of_any_source_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "compiler_for_test"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "emit.py").write_text("a = 1\n")
    (package / "shim.c").write_text("int a;\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(build_cache, "PACKAGES", (package.name,))
    digests = [sources_digest()]

    def changed() -> bool:
        digests.append(sources_digest())
        return digests[-1] not in digests[:-1]

    (package / "notes.txt").write_text("no source")
    assert not changed()
    (package / "inner" / "emit.py").write_text("a = 2\n")
    assert changed()
    (package / "shim.c").write_text("int b;\n")
    assert changed()
    (package / "new.py").write_text("")
    assert changed()
    (package / "new.py").rename(package / "newer.py")
    assert changed()
    # Editors leave links to nowhere as locks.
    (package / ".#emit.py").symlink_to("nowhere")
    assert not changed()


def test_the_compilers_own_sources_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = sources_digest()
    read, touched = Path.read_bytes, []

    def note(path: Path) -> bytes:
        touched.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", note)
    assert sources_digest() == usual
    assert {"building.py", "quantizer.py", "partition.py", "compiler.py", "isa.py", "shim.c", "sim.json"} <= {*touched}


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_different_values_have_different_digests(one: Any, two: Any) -> None:
    # Unlike `==`, `repr` tells 1, 1.0 and True apart.
    assert (content_digest(one) == content_digest(two)) == (repr(one) == repr(two))


def test_what_has_no_encoding_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot digest function"):
        content_digest({"options": [key]})


# Building with the cache.


def test_a_second_build_is_the_first_ones(cache: BuildCache) -> None:
    first = build(model(), cache=cache, offload="reference")
    remarks: list[str] = []
    stages = Stages(remark=remarks.append)
    second = build(model(), cache=cache, stages=stages, offload="reference")
    assert not first.cached and second.cached
    assert second.data == first.data == build(model(), offload="reference").data
    assert (second.digest, second.manifest, second.counters) == (first.digest, first.manifest, first.counters)
    assert second.fallbacks == first.fallbacks and second.fallbacks
    assert [*map(write_program, second.programs)] == [*map(write_program, first.programs)] and second.programs
    assert content_digest(second.integer_model) == content_digest(first.integer_model)
    assert list(stages.seconds) == ["look in the cache"]
    assert remarks == [second.how_made] and remarks[0].startswith("unchanged since 20")


def test_another_model_is_compiled(cache: BuildCache) -> None:
    first = build(model(), cache=cache)
    other = build(replace(model(), labels=("cat",)), cache=cache)
    assert not other.cached and other.digest != first.digest
    assert not build(model(), "pynq", cache=cache).cached
    assert not build(model(), origin={"seed": 1}, cache=cache).cached
    assert not build(model(), offload="reference", cache=cache).cached
    assert build(model(), cache=cache).digest == first.digest
    assert len(list(cache.folder.iterdir())) == 5


def test_a_bundle_that_takes_pixels_is_another(cache: BuildCache) -> None:
    how = Preprocessing(16, (16, 16), (0.5,) * 3, (0.25,) * 3)
    photographic = replace(model(), preprocessing=how)
    floats = build(photographic, cache=cache)
    first, second = (build(photographic, cache=cache, pixels=True) for _ in range(2))
    assert not first.cached and first.digest != floats.digest
    assert second.cached and second.data == first.data
    assert content_digest(second.integer_model) == content_digest(first.integer_model)


def test_a_damaged_entry_is_compiled_again(cache: BuildCache) -> None:
    first = build(model(), cache=cache)
    path = only_entry(cache)
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    again = build(model(), cache=cache)
    assert not again.cached and again.data == first.data
    assert again.notices == (damaged(path),)
    assert only_entry(cache).read_bytes() == sound
    last = build(model(), cache=cache)
    assert last.cached and last.notices == ()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    made = build(model(), cache=BuildCache(tmp_path / "file" / "builds"))
    assert isinstance(made, Build) and not made.cached
    (notice,) = made.notices
    assert notice.startswith("the bundle was not kept") and "EDGECTL_CACHE" in notice


# The store.


def test_what_is_kept_is_found(cache: BuildCache) -> None:
    assert cache.find(KEY) == (None, "")
    before = time.time()
    assert cache.keep(KEY, b"bundle") == ""
    entry, notice = cache.find(KEY)
    assert entry is not None and (entry.data, notice) == (b"bundle", "")
    assert before - 1 <= entry.built.timestamp() <= time.time() + 1
    assert cache.find(OTHER) == (None, "")
    cache.keep(KEY, b"newer")
    found, _ = cache.find(KEY)
    assert found is not None and found.data == b"newer"


@pytest.mark.parametrize("flipped", [0, build_cache.DIGEST_BYTES - 1, build_cache.DIGEST_BYTES, 500, 999])
def test_an_entry_with_a_flipped_bit_is_not_found(cache: BuildCache, flipped: int) -> None:
    cache.keep(KEY, bytes(1000 - build_cache.DIGEST_BYTES))
    changed = bytearray(only_entry(cache).read_bytes())
    changed[flipped] ^= 1
    only_entry(cache).write_bytes(changed)
    assert cache.find(KEY) == (None, damaged(only_entry(cache)))


@pytest.mark.parametrize("length", [0, 1, build_cache.DIGEST_BYTES - 1, build_cache.DIGEST_BYTES, 500, 999, 1001])
def test_an_entry_of_another_length_is_not_found(cache: BuildCache, length: int) -> None:
    cache.keep(KEY, bytes(1000 - build_cache.DIGEST_BYTES))
    with only_entry(cache).open("r+b") as file:
        file.truncate(length)
    assert cache.find(KEY) == (None, damaged(only_entry(cache)))
    assert cache.keep(KEY, b"sound") == ""
    entry, notice = cache.find(KEY)
    assert entry is not None and (entry.data, notice) == (b"sound", "")


def test_the_date_is_that_of_the_build(cache: BuildCache) -> None:
    cache.keep(KEY, b"bundle")
    os.utime(only_entry(cache), (1e9, 1e9))
    for _ in range(2):
        entry, _ = cache.find(KEY)
        assert entry is not None and entry.built.timestamp() == 1e9


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, maximum_bytes=3 * (100 + build_cache.DIGEST_BYTES))
    for number, name in enumerate("abc"):
        cache.keep(name, bytes(100))
        # Used in this order, built in the reverse one.
        os.utime(tmp_path / f"{name}.bundle", (1e9 + number, 1e9 - number))
    cache.find("a")
    cache.keep("d", bytes(100))
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}
    cache.keep("e", bytes(300))
    assert {path.stem for path in tmp_path.iterdir()} == {"e"}


def test_a_bundle_too_large_for_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, maximum_bytes=100)
    cache.keep(KEY, bytes(101))
    assert cache.find(KEY) == (None, "") and not list(tmp_path.iterdir())


def test_what_killed_processes_left_goes_after_a_day(cache: BuildCache) -> None:
    cache.keep(KEY, b"bundle")
    for name, age in ((".old.bundle.x1", STALE_SECONDS + 60), (".new.bundle.x2", 60)):
        (cache.folder / name).write_bytes(b"part")
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    cache.keep(OTHER, b"bundle")
    assert {path.name for path in cache.folder.iterdir()} == {".new.bundle.x2", f"{KEY}.bundle", f"{OTHER}.bundle"}


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_not_used(cache: BuildCache, mode: int) -> None:
    cache.keep(KEY, b"bundle")
    cache.folder.chmod(mode)
    assert cache.find(KEY) == (None, "")
    assert f"chmod go-w {cache.folder}" in cache.keep(OTHER, b"bundle")
    cache.folder.chmod(0o700)
    assert cache.find(KEY)[0] is not None and cache.find(OTHER)[0] is None


def test_nothing_is_kept_of_sources_that_changed_meanwhile(cache: BuildCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_cache, "sources_digest", lambda: "edited")
    assert "sources changed" in cache.keep(KEY, b"bundle")
    assert not cache.folder.exists()


def content(name: str) -> bytes:
    return name.encode() * 50_000


def use(folder: Path, seed: int) -> list[str]:
    """Keep and find entries in a folder that has room for half of them; returns what went wrong."""
    cache = BuildCache(folder, maximum_bytes=4 * 50_100)
    generator = np.random.default_rng(seed)
    wrong = []
    for _ in range(120):
        name = "abcdefgh"[generator.integers(8)]
        entry, notice = cache.find(name)
        if entry is None:
            notice = notice or cache.keep(name, content(name))
        elif entry.data != content(name):
            notice = f"the entry of {name} is another"
        if notice:
            wrong.append(notice)
    return wrong


def test_processes_can_share_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(use, [(tmp_path, seed) for seed in range(3)]) == [[], [], []]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert 1 <= len(names) <= 4 and not any(name.startswith(".") for name in names)


def test_the_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path))
    assert BuildCache.from_environment().folder == tmp_path / "builds"
    monkeypatch.delenv("EDGECTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    if sys.platform == "linux":
        assert BuildCache.from_environment().folder == tmp_path / "user" / "edgectl" / "builds"
