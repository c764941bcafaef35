"""How a measurement on a board is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent.accuracy import Accuracy
from edge_agent.boards import profile
from edgectl.boards.board import Score
from edgectl.boards.metrics_address import ON_LOOPBACK
from edgectl.bounds import Bound
from edgectl.cli.terminal import banner, milliseconds, notices, output, stage_times, table
from edgectl.flashing import FlashReport
from edgectl.measuring import Latency, Measurement

COUNTER_MEANINGS = {
    "inp_load_nbytes": "bytes of input loaded",
    "wgt_load_nbytes": "bytes of weights loaded",
    "acc_load_nbytes": "bytes of biases loaded",
    "uop_load_nbytes": "bytes of micro-ops loaded",
    "out_store_nbytes": "bytes of output stored",
    "gemm_counter": "GEMM operations",
    "alu_counter": "ALU operations",
}


def show_measurement(measurement: Measurement, next_steps: Sequence[str] = ()) -> None:
    """Prediction, latency, counters and links, for people."""
    console = output()
    model = measurement.manifest["model"]
    place = f"{measurement.board}{' (simulated)' if measurement.simulated else ''}"
    console.print(
        f"\n[bold]{model['name']}[/bold] is live on [bold]{place}[/bold]"
        f"  [dim]bundle {measurement.digest[:12]}, {measurement.nbytes / 1e6:.1f} MB[/dim]\n"
    )
    show_warnings(measurement)
    if measurement.prediction.top:
        show_top(measurement.image, measurement.prediction.top)
    show_latency(measurement)
    show_counters(measurement)
    console.print()
    if accuracy := Accuracy.of(measurement.manifest):
        console.print(f"Accuracy {accuracy.in_words()}", markup=False)
    console.print(f"Metrics  {measurement.metrics_url or ON_LOOPBACK}", markup=False)
    console.print(f"Time     {stage_times(measurement.timings)}", markup=False)
    for index, step in enumerate(next_steps):
        console.print(f"{'         ' if index else 'Next     '}{step}", markup=False)


def show_warnings(measurement: Measurement) -> None:
    """What limits the meaning of the numbers."""
    notices(measurement.notices)
    banner(measurement.banner)


def show_top(image: str, top: Sequence[Score]) -> None:
    """The best classes of an image."""
    rows = table(Path(image).name, "score", right=("score",))
    for score in top:
        rows.add_row(score.label, f"{100 * score.score:.1f} %")
    output().print(rows)


def show_latency(measurement: Measurement) -> None:
    """Measured milliseconds per sample; for a simulated board, what is predicted for the real one too."""
    console = output()
    rows = table("time per sample", "mean", "std", "p50", "p99", right=("mean", "std", "p50", "p99"))

    def add(name: str, latency: Latency) -> None:
        rows.add_row(name, *map(milliseconds, (latency.mean, latency.std, latency.p50, latency.p99)))

    here = "simulated on this machine" if measurement.simulated else "measured on the board"
    add(f"inference, {here}", measurement.per_sample)
    add("of it VTA", measurement.vta)
    console.print()
    console.print(rows)
    predicted = measurement.manifest["predicted"]
    console.print(
        f"For real hardware {prediction(measurement.manifest)}\n"
        f"[dim]({predicted['vta_cycles'] / measurement.batch:,.0f} cycles at {predicted['clock_hz'] / 1e6:.0f} MHz; "
        "the rest is estimated from instruction counts)[/dim]"
    )


def prediction(manifest: Mapping[str, Any]) -> str:
    """What is predicted of a bundle for each sample, in one line; of VTA alone where edgectl knew no more."""
    predicted = manifest["predicted"]
    samples = manifest["inputs"][0]["shape"][0]

    def shown(part: str) -> str:
        return milliseconds(predicted[part] * 1e3 / samples)

    if "total_seconds" not in predicted:
        return f"predicted of VTA alone: {shown('vta_seconds')} per sample"
    parts = f"VTA {shown('vta_seconds')}, CPU {shown('cpu_seconds')}, calls {shown('overhead_seconds')}"
    return f"predicted on {predicted['processor']}: {shown('total_seconds')} per sample ({parts})"


def cycles_line(manifest: Mapping[str, Any]) -> str:
    """Predicted cycles of VTA beside the least that any schedule needs."""
    bound = Bound.from_dict(manifest["bounds"]["network"])
    cycles, clock = manifest["predicted"]["vta_cycles"], manifest["predicted"]["clock_hz"]
    least = bound.cycles(profile(manifest["board"]).bus_bytes)
    share = f", {cycles / least:.2f} times the lower bound of {least:,}" if least else ""
    return f"VTA: {cycles:,} cycles at {clock / 1e6:.0f} MHz{share}"


def show_counters(measurement: Measurement) -> None:
    """The seven counters."""
    inference = "per inference" if measurement.batch == 1 else f"per inference of {measurement.batch}"
    rows = table("VTA counter", inference, "", right=(inference,))
    for name, value in measurement.bench.counters.items():
        rows.add_row(name, f"{value:,}", f"[dim]{COUNTER_MEANINGS.get(name, '')}[/dim]")
    output().print()
    output().print(rows)


def show_flash(report: FlashReport) -> None:
    """What was compared, what the FPGA holds now, and how long it took."""
    console = output()
    rows = table("preflight", "", "is", "must be")
    for check in report.checks:
        rows.add_row(check.subject, check.what, check.found, check.wanted)
    console.print(rows)
    console.print()
    if report.dry_run:
        console.print(f"Everything fits; {report.candidate.name} was not programmed (dry run)", markup=False)
        return
    console.print(
        f"{report.board} holds {report.candidate.name} (SHA-256 {report.candidate.sha256[:12]})", markup=False
    )
    if report.previous is not None:
        console.print(f"Before   {report.previous['id']}, kept on the board", markup=False)
    if report.self_test is not None:
        cases = ", ".join(report.self_test["cases"])
        console.print(f"Tested   {cases}: all right, {milliseconds(report.self_test['seconds'] * 1e3)}", markup=False)
    else:
        console.print(
            "Tested   not at all: no agent is there; install one, then `edgectl flash HOST:PORT`", markup=False
        )
    console.print(f"Time     {stage_times(report.timings)}", markup=False)
