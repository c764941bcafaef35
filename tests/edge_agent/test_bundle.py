"""Reading bundles: whatever is wrong with one, the agent says so in its own words."""

from __future__ import annotations

import io
import zipfile

import pytest

from edge_agent.bundle import Bundle, read_bundle
from edge_agent.errors import IncompatibleError, VerificationError
from tests.edge_agent.bundles import identity_bundle


@pytest.fixture(scope="module")
def content() -> bytes:
    """A bundle whose members are compressed, as the controller's are."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(identity_bundle())) as stored, zipfile.ZipFile(target, "w") as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED, compresslevel=1)
    return target.getvalue()


def read(content: bytes) -> Bundle | None:
    """The bundle; None where it is refused as damaged, or as another version's."""
    try:
        return read_bundle(content)
    except (VerificationError, IncompatibleError):
        return None


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_no_flipped_byte_changes_what_is_read(content: bytes, mask: int) -> None:
    sound = read_bundle(content)
    step = max(1, len(content) // 1500)
    refused = 0
    for position in range(0, len(content), step):
        changed = bytearray(content)
        changed[position] ^= mask
        found = read(bytes(changed))
        refused += found is None
        # Dates and the like are in no digest, and mean nothing.
        assert found is None or (found.digest, found.members) == (sound.digest, sound.members), position
    assert refused > 300


def test_no_truncated_bundle_is_read(content: bytes) -> None:
    step = max(1, len(content) // 500)
    assert not any(read(content[:length]) for length in range(0, len(content), step))
