"""edgectl run."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import (
    BoardOption,
    JsonOption,
    TopOption,
    TrackerKeyOption,
    TrackerOption,
    TypeOption,
    WaitOption,
)


def run(
    image: Annotated[str, typer.Argument(help="A photograph (default: the cat that ships with edgectl).")] = "",
    board: BoardOption = "sim",
    input: Annotated[str, typer.Option("--input", help="The photograph, as an option.")] = "",
    top: TopOption = 5,
    type: TypeOption = "",
    tracker: TrackerOption = "",
    key: TrackerKeyOption = "",
    wait: WaitOption = None,
    json: JsonOption = False,
) -> None:
    """Classify a photograph with the model that is deployed.

    \b
    edgectl run cat.jpg
    edgectl run cat.jpg --top 3 --json
    """
    from dataclasses import asdict

    from edgectl.boards.board import PIXELS, Board
    from edgectl.boards.choosing import selection
    from edgectl.cli.report import show_top
    from edgectl.cli.terminal import banner, milliseconds, output, print_json, waiting
    from edgectl.images import DEFAULT_IMAGE
    from edgectl.measuring import random_weights_banner

    path = image or input or str(DEFAULT_IMAGE)
    with Board(selection(board, type, tracker, key), start=False) as opened, opened.leased("run", wait, waiting):
        manifest = opened.connection.manifest()
        prediction = opened.run(path, top)
    batch = manifest["inputs"][0]["shape"][0]
    reply = prediction.reply
    banner(random_weights_banner(manifest))
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
    show_top(path, prediction.top)
    console = output()
    console.print(
        f"[dim]{manifest['model']['name']}: {milliseconds(reply.seconds * 1e3 / batch)} per sample, of it VTA "
        f"{milliseconds(reply.vta_seconds * 1e3 / batch)}[/dim]"
    )
    if how := manifest["preprocessing"]:
        where = "normalised on the board: " if manifest["inputs"][0]["dtype"] == PIXELS else ""
        console.print(
            f"[dim]input: short side {how['resize']}, crop {how['crop'][0]}x{how['crop'][1]}, {how['channel_order']}, "
            f"{where}mean {tuple(how['mean'])}, std {tuple(how['std'])}[/dim]"
        )
