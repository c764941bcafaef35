"""How a measurement on a board is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgectl.boards.board import Score
from edgectl.cli.terminal import banner, milliseconds, notices, output, stage_times, table
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
    console.print(f"\nMetrics  {measurement.metrics_url}", markup=False)
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
    batch = measurement.batch
    console.print(
        f"Prediction for real hardware: VTA alone would take "
        f"{milliseconds(predicted['vta_seconds'] * 1e3 / batch)} per sample\n"
        f"[dim]({predicted['vta_cycles'] / batch:,.0f} cycles at the board's {predicted['clock_hz'] / 1e6:.0f} MHz; "
        "its CPU's share is not included)[/dim]"
    )


def show_counters(measurement: Measurement) -> None:
    """The seven counters."""
    inference = "per inference" if measurement.batch == 1 else f"per inference of {measurement.batch}"
    rows = table("VTA counter", inference, "", right=(inference,))
    for name, value in measurement.bench.counters.items():
        rows.add_row(name, f"{value:,}", f"[dim]{COUNTER_MEANINGS.get(name, '')}[/dim]")
    output().print()
    output().print(rows)
