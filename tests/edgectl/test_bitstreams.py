"""Bitstreams on the controller: fetched, cached, verified, and what is known of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.catalogue import Bitstream, catalogue, find_bitstream
from edgectl.bitstreams import BitstreamStore, candidate
from edgectl.download import Downloader
from edgectl.errors import IncompatibleError, UnreachableError, UsageError, VerificationError
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edgectl.file_server import FileServer, cut, file_server

FILE = bit_file(configuration())
PYNQ = profile("pynq")
PATH = "/uwsampl/vta-distro/raw/master/bitstreams/pynq/0.0.2/1x16_i8w8a32_15_15_18_17.bit"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


def entry(data: bytes = FILE) -> Bitstream:
    published = find_bitstream(catalogue(), "pynq-0.0.2-1x16")
    return replace(published, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def store(server: FileServer, tmp_path: Path) -> BitstreamStore:
    downloader = Downloader(connect_timeout=2, stall_timeout=2, pause=0.01, resume=True)
    return BitstreamStore(tmp_path / "cache", server.url, (entry(),), downloader)


def test_the_published_one_is_downloaded_once(store: BitstreamStore, server: FileServer) -> None:
    server.routes[PATH] = FILE
    told: list[tuple[int, int]] = []
    found = candidate(PYNQ, store=store, progress=lambda done, total: told.append((done, total)))
    assert found.data == FILE and found.entry == entry() and found.name == "pynq-0.0.2-1x16"
    assert (found.config, found.isa, found.assumed) == (PYNQ.config, "0.0.2", ())
    assert told[-1] == (len(FILE), len(FILE))
    assert candidate(profile("pynq-z2"), "pynq-0.0.2-1x16", store=store).sha256 == entry().sha256
    assert server.requests[PATH] == 1


def test_a_damaged_cache_is_fetched_again(store: BitstreamStore, server: FileServer, tmp_path: Path) -> None:
    server.routes[PATH] = FILE
    (tmp_path / "cache" / entry().id).mkdir(parents=True)
    (tmp_path / "cache" / entry().id / entry().name).write_bytes(FILE[:-1])
    assert store.fetch(entry()) == FILE and server.requests[PATH] == 1


def test_another_file_than_the_published_one(store: BitstreamStore, server: FileServer, tmp_path: Path) -> None:
    server.routes[PATH] = FILE[:-4] + b"flip"
    with pytest.raises(VerificationError, match="has sha256"):
        candidate(PYNQ, store=store)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_store_out_of_reach(store: BitstreamStore, server: FileServer) -> None:
    with pytest.raises(UnreachableError, match=r"pynq-0.0.2-1x16 could not be downloaded: .*404.*--bitstream FILE"):
        candidate(PYNQ, store=store)
    server.routes[PATH] = cut(FILE)
    with pytest.raises(UnreachableError, match="the transfer ended after"):
        candidate(PYNQ, store=store)


def test_what_is_not_to_be_had() -> None:
    with pytest.raises(IncompatibleError, match="no bitstream is published for board 'ultra96'"):
        candidate(profile("ultra96"), store=BitstreamStore(Path("/nowhere")))
    with pytest.raises(IncompatibleError, match=r"ultra96-0.0.1-1x16 cannot be verified, as its digest is not known"):
        candidate(profile("ultra96"), "ultra96-0.0.1-1x16", store=BitstreamStore(Path("/nowhere")))
    with pytest.raises(IncompatibleError, match="there is no bitstream 'vta' in the catalogue"):
        candidate(PYNQ, "vta", store=BitstreamStore(Path("/nowhere")))


def test_files(store: BitstreamStore, tmp_path: Path) -> None:
    for name, data in (("vta.bit", FILE), ("vta.bin", swapped(configuration())), ("4x8_i8w8a32_15_16_16_18.bit", b"")):
        (tmp_path / name).write_bytes(data)
    known = candidate(PYNQ, str(tmp_path / "vta.bit"), store=store)
    assert known.entry == entry() and known.assumed == ()
    own = candidate(PYNQ, str(tmp_path / "vta.bin"), store=store)
    assert own.entry is None and own.name == "vta.bin" and own.image.data == configuration()
    assert own.assumed == ("configuration", "instruction set")
    told = candidate(PYNQ, str(tmp_path / "vta.bin"), "4x8_i8w8a32_15_16_16_18", "0.0.1", store)
    assert (told.config, told.isa, told.assumed) == ("4x8_i8w8a32_15_16_16_18", "0.0.1", ())
    with pytest.raises(VerificationError, match=r"4x8_i8w8a32_15_16_16_18.bit: the bitstream is empty"):
        candidate(PYNQ, str(tmp_path / "4x8_i8w8a32_15_16_16_18.bit"), store=store)
    (tmp_path / "4x8_i8w8a32_15_16_16_18.bit").write_bytes(bit_file(configuration(seed=5)))
    named = candidate(PYNQ, str(tmp_path / "4x8_i8w8a32_15_16_16_18.bit"), store=store)
    assert (named.config, named.assumed) == ("4x8_i8w8a32_15_16_16_18", ("instruction set",))
    with pytest.raises(UsageError, match="leave out --config and --isa"):
        candidate(PYNQ, str(tmp_path / "vta.bit"), isa="0.0.2", store=store)
    with pytest.raises(UsageError, match=r"cannot read bitstream /nowhere/vta.bit: No such file"):
        candidate(PYNQ, "/nowhere/vta.bit", store=store)


def test_what_is_no_file(store: BitstreamStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.bit")
    for path in (str(tmp_path / "pipe.bit"), "/dev/zero"):
        with pytest.raises(UsageError, match=f"{path} is no file but a pipe or a device"):
            candidate(PYNQ, path, store=store)
    with pytest.raises(UsageError, match=r"cannot read bitstream .*: Is a directory"):
        candidate(PYNQ, f"{tmp_path}/", store=store)
