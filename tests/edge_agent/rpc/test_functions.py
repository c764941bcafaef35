"""The table of functions: argument checks, and agreement with docs/rpc.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import InputError
from edge_agent.rpc.functions import collect, describe, exported, markdown
from edge_agent.rpc.module import MODULE_FUNCTIONS
from edge_agent.rpc.session import FUNCTIONS

DOCUMENT = Path(__file__).parents[3] / "docs" / "rpc.md"


@exported("sample", "For this test.")
def sample(owner: object, count: int, ratio: float, name: str | int, data: bytes = b"", *more: int) -> str | None:
    return f"{count} {ratio} {name!r} {data!r} {more}"


def test_a_function_describes_itself() -> None:
    function = describe(sample)
    assert function.name == "sample" and function.meaning == "For this test."
    assert function.signature == (
        "(count: int, ratio: float, name: string or int, data?: bytes, more: int ...) -> string or none"
    )


def test_arguments_are_converted_where_nothing_is_lost() -> None:
    assert describe(sample)(None, [True, 2, "n", b"x", 1, 2]) == "1 2.0 'n' b'x' (1, 2)"


@pytest.mark.parametrize(
    "arguments",
    [[], [1, 2.0], [1.5, 2.0, "n"], [1, 2.0, None], [1, 2.0, "n", "text"], [1, 2.0, "n", b"", "x"], [1, "2", "n"]],
)
def test_wrong_arguments_are_refused(arguments: list[object]) -> None:
    with pytest.raises(InputError, match="sample"):
        describe(sample)(None, arguments)  # type: ignore[arg-type]


def test_collect_finds_exported_functions_only() -> None:
    assert set(collect(globals())) == {"sample"}


def test_the_stock_clients_functions_are_there() -> None:
    wanted = {
        f"tvm.rpc.server.{name}"
        for name in (
            "upload",
            "download",
            "remove",
            "listdir",
            "load_module",
            "ModuleGetFunction",
            "GetCRTMaxPacketSize",
        )
    } | {"runtime.RPCTimeEvaluator"}
    assert wanted <= set(FUNCTIONS)


@pytest.mark.parametrize("table", [FUNCTIONS, MODULE_FUNCTIONS], ids=["functions", "module"])
def test_the_document_shows_the_table(table: dict[str, object]) -> None:
    assert markdown(table) in DOCUMENT.read_text(), (  # type: ignore[arg-type]
        "docs/rpc.md is out of date; paste what `python -m edge_agent.rpc.functions` prints"
    )
