"""Bitstream files: what is read out of them, and what is refused before an FPGA sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.boards import Fpga, profile
from edge_agent.errors import AgentError, IncompatibleError, VerificationError
from edge_agent.fpga.bitstream import check_part, checked_image, read_image
from tests.edge_agent.fpga.bitfiles import PYNQ_BYTES, PYNQ_IDCODE, bit_file, configuration, swapped

NBYTES = 4096


def fpga(name: str = "pynq") -> Fpga:
    found = profile(name).fpga
    assert found is not None
    return found


def test_a_bit_file_of_the_published_form() -> None:
    data = configuration()
    file = bit_file(data)
    assert abs(len(file) - 4_045_671) < 16 and len(data) == PYNQ_BYTES and data.index(b"\xaa\x99\x55\x66") == 48
    image = checked_image(file, fpga(), "pynq")
    assert image.header is not None and image.data == data and image.idcode == PYNQ_IDCODE
    assert image.header.design == "vta;UserID=0XFFFFFFFF;Version=2018.3"
    assert (image.header.part, image.header.built) == ("7z020clg484", "2020/06/30 18:11:16")
    assert image.for_kernel(fpga()) == swapped(data)


def test_bin_files_in_either_order() -> None:
    data = configuration()
    for file in (data, swapped(data)):
        image = checked_image(file, fpga(), "pynq-z2")
        assert image.header is None and image.data == data and image.idcode == PYNQ_IDCODE
        assert image.for_kernel(fpga())[48:52] == b"\x66\x55\x99\xaa"


texts = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)


@given(design=texts, part=texts, words=st.integers(0, 64), seed=st.integers(0, 1000))
def test_what_is_written_is_read(design: str, part: str, words: int, seed: int) -> None:
    data = configuration(256 + 4 * words, None, seed)
    image = read_image(bit_file(data, part, design))
    assert image.header is not None and image.data == data
    assert (image.header.design, image.header.part) == (design, part)
    assert read_image(swapped(data)).data == data


@given(st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=8))
def test_garbage_is_refused_or_read_but_never_crashes(garbage: bytes, cut: int, patch: bytes) -> None:
    good = bit_file(configuration(512))
    for file in (garbage, good[:cut], good[:cut] + patch + good[cut + len(patch) :], good[:14] + garbage):
        try:
            image = read_image(file)
        except AgentError:
            continue
        assert len(image.data) % 4 == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "the bitstream is empty"),
        (b"\0" * 1000, "there is no sync word AA995566, in either byte order, in the first 1000 bytes"),
        (b"<html>not found</html>..", "no bitstream of a Xilinx FPGA"),
        (bit_file(configuration(NBYTES))[:2000], "announces 4096 bytes of data, 1901 are there: it is truncated"),
        (bit_file(configuration(NBYTES))[:60], "it ends within its header|has no end"),
        (bit_file(configuration(NBYTES)) + b"more", "followed by something else"),
        (bit_file(configuration(NBYTES), announced=5000), "announces 5000 bytes of data, 4096 are there"),
        (bit_file(swapped(configuration(NBYTES))), "the words of its data are reversed"),
        (configuration(NBYTES)[:-1], "4095 bytes, not a multiple of 4"),
        (bit_file(configuration(NBYTES)).replace(b"b\0\x0c7z", b"x\0\x0c7z"), "record 'b' is missing at byte"),
        (
            configuration(NBYTES).translate(bytes(int(f"{v:08b}"[::-1], 2) for v in range(256))),
            "the bits of the bitstream's bytes are reversed",
        ),
    ],
)
def test_what_no_fpga_would_take(file: bytes, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        read_image(file)


@pytest.mark.parametrize("part", ["7z020clg484", "7z020clg400", "xc7z020-clg400-1", "XC7Z020CLG484"])
def test_packages_of_the_same_die(part: str) -> None:
    check_part(read_image(bit_file(configuration(NBYTES), part)), fpga(), "pynq")


@pytest.mark.parametrize(
    ("part", "idcode", "board", "message"),
    [
        ("7z010clg400", None, "pynq-z2", "is for 7z010clg400, board 'pynq-z2' has a 7z020"),
        ("7z0201clg400", None, "pynq", "is for 7z0201clg400"),
        ("", None, "pynq", "is for , board"),
        ("7z020clg484", 0x0372C093, "pynq", "identity 0x0372c093, board 'pynq' has a 7z020, identity 0x03727093"),
        ("7z020clg484", PYNQ_IDCODE, "ultra96", "is for 7z020clg484, board 'ultra96' has a zu3eg"),
        ("xczu7ev-ffvc1156-2-e", 0x04730093, "ultra96", "board 'ultra96' has a zu3eg"),
    ],
)
def test_another_part(part: str, idcode: int | None, board: str, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        check_part(read_image(bit_file(configuration(NBYTES, idcode), part)), fpga(board), board)


def test_a_bin_file_says_its_device_by_its_data_alone() -> None:
    zynqmp = read_image(swapped(configuration(NBYTES, 0x14710093)))
    check_part(zynqmp, fpga("ultra96"), "ultra96")
    with pytest.raises(IncompatibleError, match="0x14710093, board 'zcu104' has a zu7ev, identity 0x04730093"):
        check_part(zynqmp, fpga("zcu104"), "zcu104")
    check_part(read_image(configuration(NBYTES, None)), fpga("zcu104"), "zcu104")


def test_the_length_of_an_image() -> None:
    with pytest.raises(VerificationError, match="has 4096 bytes of data, an image of a 7z020 has 4045564"):
        checked_image(bit_file(configuration(NBYTES)), fpga(), "pynq")
    checked_image(bit_file(configuration(NBYTES, 0x04710093), "xczu3eg-sbva484-1-e"), fpga("ultra96"), "ultra96")
