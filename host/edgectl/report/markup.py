"""HTML and SVG elements as text, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\t\n"}


def text(value: object) -> str:
    """Any value as markup that shows it."""
    return escape(str(value).translate(CONTROL), quote=False)


def element(tag: str, *content: str, **attributes: object) -> str:
    """`<tag attributes>content</tag>`. Content is markup; attributes are escaped, those that are None left out.

    `class_` is written class, other underscores become hyphens.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    written = "".join(f' {name}="{escape(str(value).translate(CONTROL))}"' for name, value in named.items())
    return f"<{tag}{written}>{''.join(content)}</{tag}>"


def svg(width: float, height: float, *content: str, label: str) -> str:
    """A figure that scales with the page."""
    return element("svg", *content, viewBox=f"0 0 {number(width)} {number(height)}", role="img", aria_label=label)


def row(cells: Iterable[str], **attributes: object) -> str:
    return element("tr", *cells, **attributes)


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def grouped(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def scaled(value: float, unit: str = "") -> str:
    """Three significant digits with a prefix: 1234567 as 1.23 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{digits(value / factor)} {prefix}{unit}"
    return f"{value:g} {unit}".strip()


def digits(value: float) -> str:
    """Three significant digits, or all before the point: 3.60, 85.8, 1234."""
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, 3 - whole)}f}"


def percent(value: float, digits: int = 1) -> str:
    return f"{value * 100:.{digits}f}%"


def ratio(value: float, least: float) -> str:
    """How many times `least` a value is; a dash where there is no least."""
    return f"{value / least:.2f}×" if least else "–"
