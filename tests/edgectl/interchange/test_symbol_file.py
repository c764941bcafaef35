"""Symbol files: every age parses to the same, malformed ones are named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.interchange.symbol_file import Symbol, parse_symbol

NODES: list[dict[str, Any]] = [
    {"op": "null", "name": "data", "inputs": []},
    {"op": "null", "name": "mean", "inputs": []},
    {"op": "relu", "name": "unused", "inputs": [[0, 0, 0]]},
    {"op": "BatchNorm", "name": "bn", "attrs": {"eps": "0.001"}, "inputs": [[0, 0, 0]] * 3 + [[1, 0, 1]]},
]


def parse(nodes: list[Any], heads: Any = ((3, 0, 0),)) -> Symbol:
    return parse_symbol(json.dumps({"nodes": nodes, "heads": heads}), "net-symbol.json")


def test_nodes_edges_and_attributes() -> None:
    symbol = parse(NODES)
    assert symbol.heads == ((3, 0),)
    assert symbol.nodes[3].inputs == ((0, 0), (0, 0), (0, 0), (1, 0))
    assert symbol.nodes[3].attributes == {"eps": "0.001"}
    assert [node.is_variable for node in symbol.nodes] == [True, True, False, False]
    assert symbol.reachable() == {0, 1, 3}
    assert symbol.auxiliary_names() == {"mean"}


def test_older_attributes_are_merged() -> None:
    nodes = [{**NODES[0], "attr": {"lr_mult": "2"}, "param": {"eps": "1"}, "backward_source_id": -1}]
    assert parse(nodes, [[0, 0]]).nodes[0].attributes == {"lr_mult": "2", "eps": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no list of nodes"),
        ('{"nodes": 3}', "no list of nodes"),
        ('{"nodes": [3]}', "node 0 lacks"),
        ('{"nodes": [{"op": "null"}]}', "node 0 lacks"),
        ('{"nodes": [{"op": "null", "name": "x", "attrs": 3}]}', "'attrs' of node 0"),
        ('{"nodes": [{"op": "relu", "name": "x", "inputs": [[0, 0, 0]]}]}', "leads to no earlier node"),
        ('{"nodes": [{"op": "null", "name": "x", "inputs": 3}]}', "not a list"),
        ('{"nodes": [{"op": "null", "name": "x"}], "heads": [[1, 0]]}', "heads have an edge"),
        ('{"nodes": [{"op": "null", "name": "x"}], "heads": [[-1, 0]]}', "heads have an edge"),
        ('{"nodes": [{"op": "null", "name": "x"}], "heads": [[0.5, 0]]}', "heads have an edge"),
        ('{"nodes": [{"op": "null", "name": "x"}], "heads": []}', "names no output"),
        ('{"nodes": [{"op": "null", "name": "x"}]}', "heads are not a list"),
    ],
)
def test_malformed_files_are_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        parse_symbol(text, "net-symbol.json")
    assert "net-symbol.json" in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(
        ["nodes", "op", "name", "inputs", "heads", "attrs"]), children, max_size=6),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300)
@given(JSON)
def test_any_json_parses_or_is_refused(document: Any) -> None:
    try:
        symbol = parse_symbol(json.dumps(document), "net")
    except ModelError as error:
        assert "net" in str(error)
    else:
        assert symbol.heads
