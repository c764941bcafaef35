"""How a measurement on a board is shown."""

from __future__ import annotations

from pathlib import Path

from edgectl.cli.terminal import banner, notices, output, table
from edgectl.deploying import Latency, Measurement

COUNTER_MEANINGS = {
    "inp_load_nbytes": "input loaded",
    "wgt_load_nbytes": "weights loaded",
    "acc_load_nbytes": "biases loaded",
    "uop_load_nbytes": "micro-ops loaded",
    "out_store_nbytes": "output stored",
    "gemm_counter": "GEMM operations",
    "alu_counter": "ALU operations",
}


def show_measurement(measurement: Measurement, next_steps: tuple[str, ...] = ()) -> None:
    """Prediction, latency, counters and links, for people."""
    console = output()
    model = measurement.manifest["model"]
    place = f"{measurement.board}{' (simulated)' if measurement.simulated else ''}"
    console.print(
        f"\n[bold]{model['name']}[/bold] is live on [bold]{place}[/bold]"
        f"  [dim]bundle {measurement.digest[:12]}, {measurement.nbytes / 1e6:.1f} MB[/dim]\n"
    )
    show_top(measurement)
    banner(measurement.banner)
    show_latency(measurement)
    show_counters(measurement)
    console.print(f"\nMetrics   {measurement.metrics_url}")
    notices(measurement.notices)
    if next_steps:
        console.print("\nNext      " + "\n          ".join(next_steps))


def show_top(measurement: Measurement) -> None:
    rows = table(f"{Path(measurement.image).name}", "score", right=("score",))
    for score in measurement.prediction.top:
        rows.add_row(score.label, f"{100 * score.score:.1f} %")
    output().print(rows)


def show_latency(measurement: Measurement) -> None:
    """Measured milliseconds per sample; for a simulated board, what is predicted for the real one too."""
    console = output()
    rows = table("per sample", "mean", "std", "p50", "p99", right=("mean", "std", "p50", "p99"))

    def add(name: str, latency: Latency) -> None:
        numbers = (latency.mean, latency.std, latency.p50, latency.p99)
        rows.add_row(name, *(f"{value:.2f} ms" for value in numbers))

    add("whole inference, measured" + (" here" if measurement.simulated else ""), measurement.per_sample)
    add("of it VTA" + (", simulated" if measurement.simulated else ""), measurement.vta)
    console.print()
    console.print(rows)
    predicted = measurement.manifest["predicted"]
    console.print(
        f"[dim]predicted for the board, VTA part alone:[/dim] {predicted['vta_seconds'] * 1e3 / measurement.batch:.1f} ms "
        f"[dim]({predicted['vta_cycles'] / measurement.batch:,.0f} cycles at {predicted['clock_hz'] / 1e6:.0f} MHz)[/dim]"
    )


def show_counters(measurement: Measurement) -> None:
    rows = table("VTA counter", "per inference", "", right=("per inference",))
    for name, value in measurement.bench.counters.items():
        rows.add_row(name, f"{value:,}", f"[dim]{COUNTER_MEANINGS.get(name, '')}[/dim]")
    output().print()
    output().print(rows)
