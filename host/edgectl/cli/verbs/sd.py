"""edgectl sd."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import JsonOption

DEFAULT_PLACE = "127.0.0.1:9095"


def sd(
    place: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help=f"Where --http listens (default: {DEFAULT_PLACE}).")
    ] = "",
    http: Annotated[bool, typer.Option("--http", help="Serve the list to Prometheus, until Ctrl-C.")] = False,
    file: Annotated[
        str, typer.Option("--file", help="Keep the list in this .json file, which Prometheus watches, until Ctrl-C.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Write the file once.")] = False,
    discovered: Annotated[
        bool, typer.Option("--discovered", help="Also boards that announce themselves by mDNS: anybody can.")
    ] = False,
    tracker: Annotated[str, typer.Option("--tracker", help="Also what the TVM tracker at HOST:PORT lists.")] = "",
    every: Annotated[float, typer.Option("--every", min=1, help="Seconds between two looks for --file.")] = 15.0,
    json: JsonOption = False,
) -> None:
    """Tell Prometheus which boards to scrape.

    They are those of your inventory, and the simulated ones that run.

    \b
    edgectl sd                       what would be scraped
    edgectl sd --http                serve it on 127.0.0.1:9095, for http_sd_configs
    edgectl sd --http 0.0.0.0:9095   to other machines too
    edgectl sd --file /etc/prometheus/edge.json
    """
    from functools import partial
    from pathlib import Path

    from edgectl.boards.client import Address
    from edgectl.boards.scrape_targets import find_targets
    from edgectl.cli.scraping import keep_file, serve, show
    from edgectl.errors import UsageError

    if http and file:
        raise UsageError("--http and --file are two ways of telling Prometheus the same; choose one")
    if place and not http:
        raise UsageError(f"{place} is where --http listens: edgectl sd --http {place}")
    if once and not file:
        raise UsageError("--once is for --file PATH")
    find = partial(find_targets, Address.parse(tracker) if tracker else None, discovered)
    if http:
        serve(place or DEFAULT_PLACE, find, json)
    elif file:
        keep_file(Path(file), find, once, every, json)
    else:
        show(find(), json)
