"""edgectl status."""

from __future__ import annotations

from edgectl.cli.options import BoardOption, JsonOption, TrackerKeyOption, TrackerOption, TypeOption


def status(
    board: BoardOption = "sim",
    type: TypeOption = "",
    tracker: TrackerOption = "",
    key: TrackerKeyOption = "",
    json: JsonOption = False,
) -> None:
    """What is live on a board, how it ran, where its metrics are."""
    from rich.text import Text

    from edge_agent.accuracy import NOT_MEASURED, Accuracy
    from edgectl.boards.board import Board
    from edgectl.boards.choosing import selection
    from edgectl.boards.leasing import in_words
    from edgectl.boards.metrics_address import ON_LOOPBACK
    from edgectl.cli.terminal import output, print_json, table

    with Board(selection(board, type, tracker, key), start=False) as opened:
        document = {**opened.status(), "metrics_url": opened.metrics_url}
    if json:
        print_json(document)
        return
    console = output()
    live, last = document["live"], document["last"]
    console.print(f"[bold]{document['description']}[/bold]  [dim]edge-agent {document.get('version', '')}[/dim]")
    rows = table("", "")
    rows.show_header = False
    if live:
        rows.add_row("model", f"{live['model']} (bundle {live['digest'][:12]}, batch {live['batch']})")
        accuracy = Accuracy.of(live)
        rows.add_row("accuracy", accuracy.in_words() if accuracy else NOT_MEASURED)
    else:
        rows.add_row("model", f"none: {document['reason']}")
    if last:
        rows.add_row("last inference", f"{last['seconds'] * 1e3:.1f} ms, of it VTA {last['vta_seconds'] * 1e3:.1f} ms")
    rows.add_row("samples", f"{document['samples']:,}")
    rows.add_row("VTA", document["config"])
    fpga = document.get("fpga")
    if fpga:
        loaded = fpga["bitstream"]
        rows.add_row("FPGA", fpga["problem"] or (loaded["id"] if loaded else "not programmed from here"))
    if lease := document.get("lease"):
        rows.add_row("lease", Text(in_words(lease)))
    rows.add_row("metrics", document["metrics_url"] or ON_LOOPBACK)
    console.print(rows)
