"""Bundles on disk: atomic activation, sweeping, and a power cut at every step."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import durable
from edge_agent.errors import AgentError, InputError, VerificationError
from edge_agent.store import Active, Store
from tests.edge_agent.fakes import bundle_bytes

STEPS = ("open", "fsync", "replace", "unlink")


def _add(store: Store, data: bytes) -> str:
    file = store.incoming / "incoming.part"
    file.write_bytes(data)
    return store.add(file)


def test_bundles_are_kept_by_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = _add(store, bundle_bytes("a"))
    assert store.read(digest).digest == digest
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [f"{digest}.bundle"]


def test_a_bad_bundle_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for data in (b"", b"no zip", bundle_bytes()[:-30]):
        with pytest.raises(VerificationError):
            _add(store, data)
    assert not list((tmp_path / "bundles").iterdir())


def test_a_bundle_that_the_boards_memory_cannot_hold_is_not_unpacked(tmp_path: Path) -> None:
    store = Store(tmp_path, maximum_bytes=1 << 20)
    file = store.incoming / "new"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernels.so", bytes(2 << 20))
    assert file.stat().st_size < 4096
    with pytest.raises(VerificationError, match="unpacks to 2097152 bytes, at most 1048576 are accepted"):
        store.add(file)
    assert not list(store.incoming.iterdir())


def test_activation_and_rollback(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = _add(store, bundle_bytes("a")), _add(store, bundle_bytes("b"))
    store.activate(first)
    store.activate(second)
    assert store.active == Store(tmp_path).active == Active(second, first)
    assert store.activate(second) == Active(second, first)
    assert store.roll_back() == Store(tmp_path).active == Active(first, None)


def test_leftovers_are_swept_at_start(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, unused = _add(store, bundle_bytes("a")), _add(store, bundle_bytes("b"))
    store.activate(kept)
    (store.incoming / "x.part").write_bytes(b"half")
    (tmp_path / f".active.json.7{durable.TEMPORARY_SUFFIX}").write_bytes(b"half")
    Store(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["active.json", "bundles"]
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [f"{kept}.bundle"]
    with pytest.raises(InputError):
        store.read(unused)


def test_old_bundles_make_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    live = _add(store, bundle_bytes("live"))
    store.activate(live)
    newest = [_add(store, bundle_bytes(f"{number}")) for number in range(6)][-1]
    names = {path.stem for path in (tmp_path / "bundles").iterdir()}
    assert len(names) == 4 and {live, newest} <= names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 2}',
        json.dumps({"schema": 1, "current": 5, "previous": None}),
        json.dumps({"schema": 1, "current": "../../x", "previous": None}),
        json.dumps({"schema": 1, "current": "a" * 64, "previous": None}),
    ],
)
def test_a_damaged_state_is_an_empty_one(tmp_path: Path, text: str) -> None:
    Store(tmp_path)
    (tmp_path / "active.json").write_text(text)
    assert Store(tmp_path).active == Active(None, None)


def test_a_bundle_that_changed_on_disk_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = _add(store, bundle_bytes("a")), _add(store, bundle_bytes("b"))
    path = tmp_path / "bundles"
    (path / f"{first}.bundle").write_bytes((path / f"{second}.bundle").read_bytes())
    with pytest.raises(VerificationError, match="has digest"):
        store.read(first)


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    first, second = _add(store, bundle_bytes("a")), _add(store, bundle_bytes("b"))
    store.activate(first)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgentError, match="No space left on device"):
        store.activate(second)
    monkeypatch.undo()
    assert store.active == Store(tmp_path).active == Active(first, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["active.json", "bundles"]


def test_an_unusable_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match="--state-dir"):
        Store(tmp_path / "file" / "state")


def _killed_at(step: int, action: Callable[[], None]) -> bool:
    """Run in a child that kills itself before its `step`-th system call of STEPS; whether it got killed."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_power_cut_at_every_step_leaves_the_old_or_the_new_version(tmp_path: Path) -> None:
    first_data, second_data = bundle_bytes("a"), bundle_bytes("b")
    outcomes, step = [], 0
    while True:
        step += 1
        directory = tmp_path / str(step)
        store = Store(directory)
        first = _add(store, first_data)
        store.activate(first)

        def deploy(store: Store = store) -> None:
            store.activate(_add(store, second_data))

        killed = _killed_at(step, deploy)
        restarted = Store(directory)
        active = restarted.active
        assert active.current is not None
        model = restarted.read(active.current).manifest["model"]
        outcomes.append(model)
        names = {path.name for path in (directory / "bundles").iterdir()}
        assert names == {f"{digest}.bundle" for digest in (active.current, active.previous) if digest}
        assert {path.name for path in directory.iterdir()} == {"active.json", "bundles"}
        if not killed:
            break
    assert step > 6 and outcomes[0] == "a" and outcomes[-1] == "b"
    assert outcomes == sorted(outcomes)  # from some step on, the new version
