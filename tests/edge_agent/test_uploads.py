"""Resumable uploads: whole or not at all."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from edge_agent import durable
from edge_agent.errors import AgentError, BusyError, InputError, VerificationError
from edge_agent.store import Store
from edge_agent.uploads import REMEMBERED, Uploads
from tests.edge_agent.fakes import bundle_bytes

DATA = bundle_bytes()
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(Store(tmp_path))


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "bundles").iterdir())


def test_chunks_become_a_bundle(uploads: Uploads, tmp_path: Path) -> None:
    assert uploads.begin(len(DATA), SHA256) == 0
    assert uploads.chunk(SHA256, 0, DATA[:100]) == 100
    assert uploads.chunk(SHA256, 100, DATA[100:]) == len(DATA)
    digest = uploads.commit(SHA256)
    assert (tmp_path / "bundles" / f"{digest}.bundle").read_bytes() == DATA
    assert _files(tmp_path) == [".bundle"]


def test_an_interrupted_upload_is_resumed(uploads: Uploads) -> None:
    uploads.begin(len(DATA), SHA256)
    uploads.chunk(SHA256, 0, DATA[:77])
    assert uploads.begin(len(DATA), SHA256) == 77
    assert uploads.chunk(SHA256, 0, bytes(77)) == 77  # what is there already is not written again
    assert uploads.chunk(SHA256, 90, DATA[90:]) == 77
    assert uploads.chunk(SHA256, 77, DATA[77:]) == len(DATA)
    assert len(uploads.commit(SHA256)) == 64


def test_missing_bytes_do_not_end_it(uploads: Uploads) -> None:
    uploads.begin(len(DATA), SHA256)
    uploads.chunk(SHA256, 0, DATA[:10])
    with pytest.raises(InputError, match=f"10 of {len(DATA)} bytes have arrived"):
        uploads.commit(SHA256)
    uploads.chunk(SHA256, 10, DATA[10:])
    uploads.commit(SHA256)


def test_wrong_bytes_leave_nothing(uploads: Uploads, tmp_path: Path) -> None:
    uploads.begin(len(DATA), SHA256)
    uploads.chunk(SHA256, 0, bytes(len(DATA)))
    with pytest.raises(VerificationError, match=f"{SHA256} was announced"):
        uploads.commit(SHA256)
    assert _files(tmp_path) == []
    with pytest.raises(InputError, match="begin it again"):
        uploads.chunk(SHA256, 0, DATA)


def test_a_whole_file_that_is_no_bundle_leaves_nothing(uploads: Uploads, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"no bundle").hexdigest()
    uploads.begin(9, sha256)
    uploads.chunk(sha256, 0, b"no bundle")
    with pytest.raises(VerificationError, match="not an edgectl bundle"):
        uploads.commit(sha256)
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("nbytes", "sha256"),
    [(0, SHA256), (-1, SHA256), (2**62, SHA256), (9, "abc"), (9, "../" * 21 + "x"), (9, SHA256.upper())],
    ids=["empty", "negative", "too large", "short", "a path", "upper case"],
)
def test_impossible_uploads(uploads: Uploads, tmp_path: Path, nbytes: int, sha256: str) -> None:
    with pytest.raises(InputError):
        uploads.begin(nbytes, sha256)
    assert _files(tmp_path) == []


def test_chunks_beyond_the_end_or_before_the_start(uploads: Uploads) -> None:
    uploads.begin(10, SHA256)
    for offset, data in ((0, bytes(11)), (-1, b"x"), (10, b"x"), (2**62, b"")):
        with pytest.raises(InputError, match="of 10"):
            uploads.chunk(SHA256, offset, data)


def test_a_bundle_that_is_there_is_not_sent_again(uploads: Uploads, tmp_path: Path) -> None:
    uploads.begin(len(DATA), SHA256)
    uploads.chunk(SHA256, 0, DATA)
    digest = uploads.commit(SHA256)
    assert uploads.commit(SHA256) == digest  # the answer was lost on its way
    assert uploads.begin(len(DATA), SHA256) == len(DATA)
    assert uploads.chunk(SHA256, 0, DATA[:5]) == len(DATA)
    assert uploads.commit(SHA256) == digest
    stored = tmp_path / "bundles" / f"{digest}.bundle"
    stored.write_bytes(DATA[:-1] + b"?")
    assert uploads.begin(len(DATA), SHA256) == 0, "it was damaged on the disk"
    uploads.chunk(SHA256, 0, DATA)
    assert uploads.commit(SHA256) == digest and stored.read_bytes() == DATA
    stored.unlink()
    assert uploads.begin(len(DATA), SHA256) == 0


def test_several_clients_may_send_the_same_file(uploads: Uploads) -> None:
    digests: list[str] = []

    def send() -> None:
        done = uploads.begin(len(DATA), SHA256)
        while done < len(DATA):
            done = uploads.chunk(SHA256, done, DATA[done : done + 7])
        digests.append(uploads.commit(SHA256))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4 and len(set(digests)) == 1


def test_finished_uploads_are_forgotten_in_time(uploads: Uploads) -> None:
    for number in range(REMEMBERED + 4):
        data = bundle_bytes(f"{number}")
        sha256 = hashlib.sha256(data).hexdigest()
        uploads.begin(len(data), sha256)
        uploads.chunk(sha256, 0, data)
        uploads.commit(sha256)
    assert len(uploads._uploads) <= REMEMBERED + 1


def test_uploads_are_bounded_and_stale_ones_give_way(tmp_path: Path) -> None:
    uploads = Uploads(Store(tmp_path), stale_seconds=3600)
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    for digest in digests[:4]:
        uploads.begin(10, digest)
    with pytest.raises(BusyError, match="4 unfinished uploads"):
        uploads.begin(10, digests[4])
    patient = Uploads(Store(tmp_path), stale_seconds=-1)
    for digest in digests:
        patient.begin(10, digest)
    assert _files(tmp_path) == [".part"]


def test_space_is_checked_first(uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "RESERVED_BYTES", 1 << 62)
    with pytest.raises(AgentError, match="do not fit on the agent's disk"):
        uploads.begin(len(DATA), SHA256)
    assert _files(tmp_path) == []
