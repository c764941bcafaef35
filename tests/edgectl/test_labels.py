"""Class names are in the order of the networks' outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError, UsageError
from edgectl.labels import parse_labels, read_label_file, read_labels


def test_imagenet_in_its_usual_order() -> None:
    labels = read_labels("imagenet1k")
    assert len(labels) == len(set(labels)) == 1000
    places = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat",
              404: "airliner", 817: "sports car", 954: "banana", 999: "toilet tissue"}  # fmt: skip
    assert {place: labels[place] for place in places} == places


def test_cifar10_in_its_usual_order() -> None:
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert read_labels("cifar10") == tuple(names.split())


def test_unknown_labels_name_those_there_are() -> None:
    with pytest.raises(ModelError, match="'coco'; known are cifar10, imagenet1k"):
        read_labels("coco")


NAMES = ("tench, Tinca tinca", "goldfish, Carassius auratus")


@pytest.mark.parametrize(
    "text",
    [
        "tench, Tinca tinca\ngoldfish, Carassius auratus\n",
        "n01440764 tench, Tinca tinca\r\nn01443537 goldfish, Carassius auratus\r\n",
        "n01440764\ttench, Tinca tinca\nn01443537\tgoldfish, Carassius auratus",
        '["tench, Tinca tinca", "goldfish, Carassius auratus"]',
        "{0: 'tench, Tinca tinca',\n 1: 'goldfish, Carassius auratus'}",
        '{"1": "goldfish, Carassius auratus", "0": "tench, Tinca tinca"}',
        '{"0": ["n01440764", "tench,_Tinca_tinca"], "1": ["n01443537", "goldfish,_Carassius_auratus"]}',
        "\ufeff{0: 'n01440764 tench, Tinca tinca', 1: 'n01443537 goldfish, Carassius auratus',}".lstrip("\ufeff"),
        "['tench, Tinca tinca', 'goldfish, Carassius auratus',]",
    ],
)
def test_synset_files_of_every_format(text: str) -> None:
    assert parse_labels(text, "synset.txt") == NAMES


def test_lines_keep_their_place() -> None:
    assert parse_labels("a\n\nb\n", "x") == ("a", "", "b")
    assert parse_labels("n01440764\nn01443537\n", "x") == ("n01440764", "n01443537")
    assert parse_labels("n01440764 tench\ncat\n", "x") == ("n01440764 tench", "cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("{0: __import__('os').system('true')}", "neither in JSON nor in Python"),
        ("[" * 10_000, "neither in JSON nor in Python"),
        ("{0: 'a', 2: 'b'}", "none with the index 1"),
        ("{'zero': 'a'}", "'zero' is not the index"),
        ("[1, 2]", "1 is not a class's name"),
        ("{}", "holds no class names"),
        ("{1, 2}", "holds no class names"),
    ],
)
def test_what_is_no_synset_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse_labels(text, "synset.txt")
    assert "synset.txt" in str(caught.value)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "synset.txt").write_bytes("\ufefftench\ngoldfish\n".encode())
    assert read_label_file(tmp_path / "synset.txt") == ("tench", "goldfish")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("binary", "absent", "."):
        with pytest.raises(UsageError, match="cannot read --labels"):
            read_label_file(tmp_path / name)


@settings(max_examples=200)
@given(st.text(max_size=60) | st.text("[]{}(),:'\"0123 n\n", max_size=60))
def test_any_text_is_labels_or_refused(text: str) -> None:
    try:
        labels = parse_labels(text, "file")
    except UsageError as error:
        assert "file" in str(error)
    else:
        assert labels and all(isinstance(label, str) for label in labels)
