"""Downloads: whole and sound or an error; a dead host is asked once."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgectl.download import Downloader
from edgectl.errors import EdgectlError, UnreachableError, VerificationError
from tests.edgectl.file_server import Behaviour, FileServer, Handler, cut, fail, file_server

CONTENT = bytes(range(256)) * 4096
SHA1 = hashlib.sha1(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


@pytest.fixture
def downloader() -> Downloader:
    return Downloader(connect_timeout=2, stall_timeout=0.3, pause=0.01)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_arrives_and_progress_is_told(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    downloader = Downloader(progress=lambda received, expected: told.append((received, expected)))
    server.routes["/file"] = CONTENT
    downloader.fetch(f"{server.url}/file", tmp_path / "sub" / "file", "sha1", SHA1)
    assert (tmp_path / "sub" / "file").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_absent_file_is_not_retried(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"/file: the server answers 404"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")
    assert server.requests["/file"] == 1
    assert names(tmp_path) == []


def test_a_passing_failure_is_retried(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = [fail(503), cut(CONTENT), CONTENT]
    downloader.fetch(f"{server.url}/file", tmp_path / "file", "sha1", SHA1)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests["/file"] == 3


def test_a_lasting_failure_gives_up(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = fail(500)
    with pytest.raises(UnreachableError, match=r"500.*\(3 attempts\)"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")
    assert server.requests["/file"] == 3


def test_a_cut_transfer_leaves_nothing(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = cut(CONTENT)
    with pytest.raises(UnreachableError, match=f"ended after {len(CONTENT)} of {2 * len(CONTENT)} bytes"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")
    assert names(tmp_path) == []


def test_a_silent_server_is_given_up(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = server.stall
    with pytest.raises(UnreachableError, match="timed out"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")
    assert names(tmp_path) == []


def test_a_trickling_server_is_given_up(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    def trickle(request: object) -> None:
        request.send_response(200)  # type: ignore[attr-defined]
        request.end_headers()  # type: ignore[attr-defined]
        while not server.released.wait(0.05):
            request.wfile.write(b"x")  # type: ignore[attr-defined]

    server.routes["/file"] = trickle
    with pytest.raises(UnreachableError, match=r"only \d+ bytes came"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")
    assert names(tmp_path) == []


def test_other_content_is_refused_with_both_digests(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = b"something else"
    with pytest.raises(VerificationError) as caught:
        downloader.fetch(f"{server.url}/file", tmp_path / "file", "sha1", SHA1)
    assert SHA1 in str(caught.value)
    assert hashlib.sha1(b"something else").hexdigest() in str(caught.value)
    assert names(tmp_path) == []


def test_a_dead_host_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    attempts = []
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kw: attempts.append(args) or real(*args, **kw))
    downloader = Downloader(connect_timeout=2)
    for name in ("a", "b"):
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} cannot be reached"):
            downloader.fetch(f"http://127.0.0.1:{port}/{name}", tmp_path / name)
    assert len(attempts) == 1


def test_a_name_lookup_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait(30)
        raise OSError("late")

    monkeypatch.setattr(socket, "create_connection", hang)
    with pytest.raises(UnreachableError, match=r"models\.example:443 cannot be reached: no answer within 0\.1 s"):
        Downloader(connect_timeout=0.1).fetch("https://models.example/file", tmp_path / "file")
    released.set()


def test_more_than_the_disk_holds_is_refused_first(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    def huge(request: object) -> None:
        request.send_response(200)  # type: ignore[attr-defined]
        request.send_header("Content-Length", str(1 << 60))  # type: ignore[attr-defined]
        request.end_headers()  # type: ignore[attr-defined]

    server.routes["/file"] = huge
    with pytest.raises(EdgectlError, match=r"needs 1152921504606846976 bytes, \d+ are free.*EDGECTL_CACHE"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file")


def test_an_unwritable_folder_is_named(server: FileServer, downloader: Downloader, tmp_path: Path) -> None:
    server.routes["/file"] = CONTENT
    (tmp_path / "occupied").write_text("")
    with pytest.raises(EdgectlError, match="cannot write"):
        downloader.fetch(f"{server.url}/file", tmp_path / "occupied" / "file")


def ranged(content: bytes, upto: int, served: list[str]) -> Behaviour:
    """A server that knows ranges, and sends at most so many bytes at once."""

    def answer(request: Handler) -> None:
        wanted = request.headers.get("Range", "")
        served.append(wanted)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        request.wfile.write(content[begin : begin + upto])

    return answer


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_download_is_resumed_within_a_run_and_in_the_next_one(server: FileServer, tmp_path: Path) -> None:
    downloader = Downloader(connect_timeout=2, stall_timeout=2, pause=0.01, attempts=2, resume=True)
    served: list[str] = []
    third = len(CONTENT) // 3
    server.routes["/file"] = ranged(CONTENT, third, served)
    with pytest.raises(UnreachableError, match=rf"ended after {2 * third} of {len(CONTENT)} bytes"):
        downloader.fetch(f"{server.url}/file", tmp_path / "file", "sha256", SHA256)
    assert served == ["", f"bytes={third}-"] and names(tmp_path) == [f".file.{SHA256}.partial"]
    server.routes["/file"] = ranged(CONTENT, len(CONTENT), served)
    told: list[tuple[int, int]] = []
    downloader.progress = lambda received, expected: told.append((received, expected))
    downloader.fetch(f"{server.url}/file", tmp_path / "file", "sha256", SHA256)
    assert served[2:] == [f"bytes={2 * third}-"] and told[-1] == (len(CONTENT), len(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]


def test_a_server_without_ranges_sends_it_all_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / f".file.{SHA256}.partial").write_bytes(b"something else entirely")
    server.routes["/file"] = CONTENT
    Downloader(resume=True).fetch(f"{server.url}/file", tmp_path / "file", "sha256", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]


def test_what_was_received_before_is_wrong(server: FileServer, tmp_path: Path) -> None:
    """The whole file is checked, so a wrong beginning is thrown away and fetched again."""
    (tmp_path / f".file.{SHA256}.partial").write_bytes(b"something else entirely")
    served: list[str] = []
    server.routes["/file"] = ranged(CONTENT, len(CONTENT), served)
    Downloader(pause=0.01, resume=True).fetch(f"{server.url}/file", tmp_path / "file", "sha256", SHA256)
    assert served == ["bytes=23-", ""] and (tmp_path / "file").read_bytes() == CONTENT


def test_more_was_received_before_than_there_is(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / f".file.{SHA256}.partial").write_bytes(CONTENT + b"more")
    server.routes["/file"] = [fail(416), CONTENT]
    Downloader(pause=0.01, resume=True).fetch(f"{server.url}/file", tmp_path / "file", "sha256", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
