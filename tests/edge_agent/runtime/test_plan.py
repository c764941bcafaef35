"""Plans survive JSON unchanged; what is malformed or out of range is refused, never executed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.memory import allocate_buffers
from edge_agent.runtime.plan import DTYPES, MAXIMUM_BYTES, Buffer, KernelStep, Plan, ProgramStep

names = st.text(max_size=8)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    storages = tuple(draw(st.lists(st.integers(64, 4096), min_size=1, max_size=4)))
    buffers = []
    for _ in range(draw(st.integers(1, 6))):
        storage = draw(st.integers(0, len(storages) - 1))
        dtype = draw(st.sampled_from(DTYPES))
        count = draw(st.integers(0, storages[storage] // 8))
        shape = draw(st.sampled_from([(count,), (1, count), (count, 1, 1)]))
        buffers.append(Buffer(draw(names), shape, dtype, storage))
    index = st.integers(0, len(buffers) - 1)
    bound = st.dictionaries(names, index, max_size=3)
    arguments, layers = st.lists(index, max_size=3).map(tuple), st.lists(names, max_size=2).map(tuple)
    kernel = st.builds(KernelStep, names, arguments, layers)
    program = st.builds(ProgramStep, names, bound, bound)
    steps = tuple(draw(st.lists(st.one_of(kernel, program), max_size=4)))
    return Plan(tuple(buffers), storages, steps, draw(bound), draw(bound), draw(bound))


@given(plans())
def test_json_round_trip(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def document() -> dict[str, Any]:
    plan = Plan(
        (Buffer("a", (4,), "float32", 0), Buffer("b", (4,), "float32", 1)),
        (16, 16),
        (KernelStep("k", (0, 1)), ProgramStep("p", {"x": 0}, {"y": 1})),
        {"a": 0},
        {"b": 1},
    )
    return json.loads(plan.to_json())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 2, "plan version 2, this agent reads 1"),
        (("buffers", 0, "dtype"), "object", "'a' has dtype 'object'"),
        (("buffers", 0, "dtype"), ">f4", "'a' has dtype '>f4'"),
        (("buffers", 0, "shape"), [5], "'a' exceeds its storage"),
        (("buffers", 0, "shape"), [-4], "negative extent"),
        (("buffers", 0, "shape"), [1 << 32, 1 << 32], "exceeds its storage"),
        (("buffers", 0, "shape"), "wide", "malformed"),
        (("buffers", 0, "storage"), 2, "storage 2, there are 2"),
        (("buffers", 0, "storage"), -1, "storage -1"),
        (("buffers", 0, "offset"), 4, "exceeds its storage"),
        (("buffers", 0, "offset"), -4, "negative extent or offset"),
        (("storages", 0), -16, "one is negative"),
        (("storages", 0), MAXIMUM_BYTES, "add up to"),
        (("steps", 0, "arguments"), [0, 2], "names buffer 2, there are 2"),
        (("steps", 1, "inputs"), {"x": -1}, "names buffer -1"),
        (("outputs",), {"b": 7}, "names buffer 7"),
        (("observed",), None, "malformed"),
        (("steps", 0), 5, "malformed"),
    ],
)
def test_bad_plans_are_refused(path: tuple[Any, ...], value: Any, message: str) -> None:
    plan = document()
    part: Any = plan
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(IncompatibleError, match=message):
        Plan.from_json(json.dumps(plan))


@given(plans(), st.data())
def test_damaged_text_is_refused_or_can_be_placed(plan: Plan, data: st.DataObject) -> None:
    text = list(plan.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(list('0123456789-,:[]{}" e')))
    try:
        damaged = Plan.from_json("".join(text))
        if sum(damaged.storages) < 1 << 20:
            allocate_buffers(damaged, {})
    except IncompatibleError as error:
        assert "plan" in str(error) or "bundle" in str(error)
