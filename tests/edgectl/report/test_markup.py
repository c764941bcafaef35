"""Elements and numbers as text."""

from __future__ import annotations

import pytest

from edgectl.report.markup import digits, element, number, percent, ratio, scaled, svg, text


def test_elements() -> None:
    assert element("a", text("<&>"), class_="x y", data_value='"1"', title=None) == (
        '<a class="x y" data-value="&quot;1&quot;">&lt;&amp;&gt;</a>'
    )
    assert svg(10, 20.5, label="drawing") == '<svg viewBox="0 0 10 20.5" role="img" aria-label="drawing"></svg>'


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (1234, "1.23 k"), (12_345, "12.3 k"), (123_456, "123 k"), (999_999, "1000 k"),
     (8_581_781, "8.58 M"), (51.2e9, "51.2 G"), (-144_000, "-144 k")],
)  # fmt: skip
def test_three_digits(value: float, shown: str) -> None:
    assert scaled(value) == shown


def test_other_numbers() -> None:
    assert scaled(17e6, "B") == "17.0 MB"
    assert [digits(value) for value in (3.6, 9.5, 0.126, 85.81, 1234.5)] == ["3.60", "9.50", "0.13", "85.8", "1234"]
    assert (number(3.0), number(2.26)) == ("3", "2.3")
    assert (percent(0.755), percent(0.755, 0)) == ("75.5%", "76%")
    assert (ratio(3, 2), ratio(3, 0)) == ("1.50×", "–")
