"""The landing page: what a person wants to see of a board at a glance."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from edge_agent.accuracy import NOT_MEASURED, Accuracy

_COUNTERS = {
    "inp_load_nbytes": ("activations loaded", " bytes"),
    "wgt_load_nbytes": ("weights loaded", " bytes"),
    "acc_load_nbytes": ("biases loaded", " bytes"),
    "uop_load_nbytes": ("micro-ops loaded", " bytes"),
    "out_store_nbytes": ("results stored", " bytes"),
    "gemm_counter": ("GEMM", " operations"),
    "alu_counter": ("ALU", " operations"),
}
"""How the page names what VTA did in the last inference."""


def _milliseconds(seconds: float | None, batch: int) -> str:
    return "–" if seconds is None else f"{seconds / batch * 1e3:.3g} ms"


def _accuracy(live: Mapping[str, Any]) -> str:
    accuracy = Accuracy.of(live)
    return accuracy.in_words() if accuracy else NOT_MEASURED


def render(status: Mapping[str, Any]) -> bytes:
    """The page for an agent's status (as `/status` gives it). Every value is escaped."""
    live, last = status["live"] or {}, status["last"] or {}
    batch = live.get("batch", 1)
    rows = {
        "model": live.get("model", f"none: {status['reason']}"),
        "bundle": f"{live['digest'][:16]}… · {live['bytes'] / 1e6:.1f} MB · batch {batch}" if live else "–",
        "accuracy": _accuracy(live) if live else "–",
        "board": status["description"],
        "configuration": status["config"],
        "RPC port": status["rpc_port"],
        "agent": f"{status['version']} · up {status['uptime_seconds']:.0f} s",
    }
    rows |= {label: f"{last['counters'][name]:,}{unit}" for name, (label, unit) in _COUNTERS.items() if last}
    fields = {
        "board": status["board"],
        "state": "ready" if live else "no model",
        "state_class": "" if live else "waiting",
        "latency": _milliseconds(last.get("seconds"), batch),
        "vta_latency": _milliseconds(last.get("vta_seconds"), batch),
        "inferences": f"{status['samples']:,}",
    }
    escaped = {name: html.escape(str(value)) for name, value in fields.items()}
    escaped["rows"] = "\n".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in rows.items()
    )
    template = Template(resources.files("edge_agent.http").joinpath("index.html").read_text(encoding="utf-8"))
    return template.substitute(escaped).encode()
