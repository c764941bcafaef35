"""MXNet's network description (`-symbol.json`) of any version, as plain values.

Nodes carry their attributes under "attrs" (MXNet 1.x, 2.0), "attr" (0.9-0.12, operator and user attributes mixed) or
"param" with user attributes in "attr" (before 0.9). Edges are [node, output] or [node, output, version].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgectl.errors import ModelError

VARIABLE = "null"


@dataclass(frozen=True)
class SymbolNode:
    """One entry of a symbol file. `op` is "null" for variables; `inputs` are (node index, output index)."""

    op: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[int, int], ...]

    @property
    def is_variable(self) -> bool:
        return self.op == VARIABLE


@dataclass(frozen=True)
class Symbol:
    """A network: nodes in topological order and the (node index, output index) of its results."""

    nodes: tuple[SymbolNode, ...]
    heads: tuple[tuple[int, int], ...]

    def reachable(self) -> set[int]:
        """Indices of the nodes that the heads depend on."""
        needed = {index for index, _ in self.heads}
        for index in range(len(self.nodes) - 1, -1, -1):
            if index in needed:
                needed.update(source for source, _ in self.nodes[index].inputs)
        return needed

    def auxiliary_names(self) -> set[str]:
        """Names of the variables that MXNet stores under `aux:`: the running statistics of batch normalisations."""
        return {
            self.nodes[source].name
            for node in self.nodes
            if node.op.startswith(("BatchNorm", "CuDNNBatchNorm"))
            for source, _ in node.inputs[3:5]
        }


def parse_symbol(text: str, where: str) -> Symbol:
    """Parse a symbol file's text; `where` names it in errors. Raises ModelError on anything malformed."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON ({error}); give the -symbol.json file that net.export wrote") from None
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise ModelError(f"{where} has no list of nodes; give the -symbol.json file that net.export wrote")
    nodes = tuple(_node(entry, index, where) for index, entry in enumerate(document["nodes"]))
    heads = _edges(document.get("heads"), len(nodes), f"{where}, heads")
    if not heads:
        raise ModelError(f"{where} names no output (its 'heads' are empty); export the network again")
    return Symbol(nodes, heads)


def _node(entry: Any, index: int, where: str) -> SymbolNode:
    if not isinstance(entry, dict) or not isinstance(entry.get("op"), str) or not isinstance(entry.get("name"), str):
        raise ModelError(f"{where}: node {index} lacks 'op' or 'name'; export the network again")
    attributes: dict[str, str] = {}
    for key in ("attr", "param", "attrs"):
        part = entry.get(key, {})
        if not isinstance(part, dict):
            raise ModelError(f"{where}: '{key}' of node {index} ('{entry['name']}') is not a table of attributes")
        attributes.update({str(name): str(value) for name, value in part.items()})
    inputs = _edges(entry.get("inputs", []), index, f"{where}: inputs of node {index} ('{entry['name']}')")
    return SymbolNode(entry["op"], entry["name"], attributes, inputs)


def _edges(entries: Any, limit: int, where: str) -> tuple[tuple[int, int], ...]:
    """Edges to nodes below `limit`: a node reads only what comes before it, so a graph cannot be cyclic."""
    if not isinstance(entries, list):
        raise ModelError(f"{where} are not a list; export the network again")
    edges = []
    for edge in entries:
        valid = isinstance(edge, list) and len(edge) >= 2 and all(type(value) is int and value >= 0 for value in edge)
        if not valid or edge[0] >= limit:
            raise ModelError(f"{where} have an edge {edge!r} that leads to no earlier node; export the network again")
        edges.append((edge[0], edge[1]))
    return tuple(edges)
