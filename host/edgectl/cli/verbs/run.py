"""edgectl run."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import BoardOption, JsonOption, TopOption


def run(
    image: Annotated[str, typer.Argument(help="A photograph (default: the cat that ships with edgectl).")] = "",
    board: BoardOption = "sim",
    input: Annotated[str, typer.Option("--input", help="The photograph, as an option.")] = "",
    top: TopOption = 5,
    json: JsonOption = False,
) -> None:
    """Classify a photograph with the model that is deployed.

    \b
    edgectl run cat.jpg
    edgectl run cat.jpg --top 3 --json
    """
    from dataclasses import asdict
    from pathlib import Path

    from edgectl.boards.board import Board
    from edgectl.cli.terminal import output, print_json, table
    from edgectl.images import DEFAULT_IMAGE

    path = image or input or str(DEFAULT_IMAGE)
    with Board(board, start=False) as opened:
        manifest = opened.connection.manifest()
        prediction = opened.run(path, top)
    batch = manifest["inputs"][0]["shape"][0]
    reply = prediction.reply
    if json:
        print_json(
            {
                "model": manifest["model"]["name"],
                "image": path,
                "preprocessing": manifest["preprocessing"],
                "top": [asdict(score) for score in prediction.top],
                "latency": {"per_sample_ms": reply.seconds * 1e3 / batch, "vta_ms": reply.vta_seconds * 1e3 / batch},
                "counters": dict(reply.counters),
            }
        )
        return
    rows = table(Path(path).name, "score", right=("score",))
    for score in prediction.top:
        rows.add_row(score.label, f"{100 * score.score:.1f} %")
    console = output()
    console.print(rows)
    console.print(
        f"[dim]{manifest['model']['name']}, {reply.seconds * 1e3 / batch:.1f} ms, of it VTA "
        f"{reply.vta_seconds * 1e3 / batch:.1f} ms[/dim]"
    )
    how = manifest["preprocessing"]
    if how:
        console.print(
            f"[dim]input: short side {how['resize']}, crop {how['crop'][0]}x{how['crop'][1]}, {how['channel_order']}, "
            f"mean {tuple(how['mean'])}, std {tuple(how['std'])}[/dim]"
        )
