"""edgectl inspect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from edgectl.cli.options import JsonOption

COUNTS = ("instructions", "load", "gemm", "alu", "store")


def inspect(
    path: Annotated[str, typer.Argument(help="A bundle, or a VTA program (.vta).")],
    disassemble: Annotated[bool, typer.Option("--disassemble", "-d", help="List the VTA instructions.")] = False,
    program: Annotated[str, typer.Option("--program", help="Only this program of a bundle.")] = "",
    layer: Annotated[
        str, typer.Option("--layer", help="How this layer is cut into tiles; with --disassemble, its instructions.")
    ] = "",
    tilings: Annotated[bool, typer.Option("--tilings", help="With --layer, also the ways that were compared.")] = False,
    json: JsonOption = False,
) -> None:
    """What is in a bundle or a program, down to the VTA instructions.

    \b
    edgectl inspect resnet18.bundle
    edgectl inspect resnet18.bundle --layer resnetv10_stage1_conv0_fwd --tilings
    edgectl inspect resnet18.bundle --layer resnetv10_stage1_conv0_fwd --disassemble
    """
    from edgectl.cli.terminal import output, print_json, table
    from edgectl.errors import UsageError
    from edgectl.inspecting import describe, explain, listing, open_programs

    if tilings and (disassemble or not layer):
        raise UsageError("--tilings is about one layer's tiles; use it with --layer NAME, without --disassemble")
    opened = open_programs(path, program)
    if disassemble:
        lines = listing(opened, layer)
        if json:
            print_json(lines)
        else:
            for line in lines:
                typer.echo(line)
        return
    if layer:
        entries = explain(opened, layer, tilings)
        if json:
            print_json(entries)
        else:
            for entry in entries:
                _print_layer(entry)
        return
    document = describe(opened)
    if json:
        print_json(document)
        return
    console = output()
    for name, value in document["summary"].items():
        console.print(f"[bold]{name:<14}[/bold] {value}", soft_wrap=True)
    for entry in document["programs"]:
        console.print(
            f"\n[bold]{entry['name']}[/bold]  {entry['instructions']:,} instructions, {entry['bytes']:,} bytes, "
            f"predicted {entry['predicted_cycles']:,} cycles"
        )
        rows = table("layer", *COUNTS, "tile", "estimated", "cycles", right=(*COUNTS, "tile", "estimated", "cycles"))
        # Names may take two lines; cut off, they would not be told apart.
        for column in rows.columns:
            column.overflow = "fold"
        for row in entry["layers"]:
            tiling = row["tiling"]
            shown = (_tile(tiling), f"{tiling['cycles']:,.0f}") if tiling else ("", "")
            counts = (f"{row[key]:,}" for key in COUNTS)
            rows.add_row(row["name"], *counts, *shown, f"{row['predicted_cycles']:,}")
        console.print(rows)
    if document["steps"]:
        console.print()
        rows = table("step", "runs", "computes")
        for number, step in enumerate(document["steps"]):
            rows.add_row(str(number), step["runs"], ", ".join(step["layers"]))
        console.print(rows)


def _tile(tiling: Mapping[str, Any]) -> str:
    """Rows, columns and blocks of output channels."""
    return f"{tiling['rows']} x {tiling['columns']} x {tiling['groups'] * tiling['outs']}"


def _print_layer(entry: Mapping[str, Any]) -> None:
    from edgectl.cli.terminal import output, table

    console = output()
    console.print(f"[bold]{entry['name']}[/bold] of {entry['program']}", soft_wrap=True)
    moved = sum(value for name, value in entry["counters"].items() if name.endswith("_nbytes"))
    predicted = f"{entry['predicted_cycles']:,} cycles, {moved / 1e3:,.1f} kB"
    for name, value in {**entry["in_words"], "predicted": predicted}.items():
        console.print(f"{name:<10} {value}", soft_wrap=True)
    if "tilings" not in entry:
        return
    numbers = ("rows", "columns", "out blocks", "in blocks", "cycles", "kB", "cost")
    rows = table(*numbers[:4], "outer loop", "buffers", *numbers[4:], right=numbers)
    for tiling in entry["tilings"]:
        outer = "channels" if tiling["weights_outer"] else "pixels"
        rows.add_row(
            *(f"{tiling[name]}" for name in ("rows", "columns")),
            f"{tiling['groups'] * tiling['outs']}",
            f"{tiling['groups'] * tiling['ins']}",
            outer + (", to and fro" if tiling["serpentine"] else ""),
            f"{tiling['inp_slots']}, {tiling['wgt_slots']}, {tiling['acc_slots']}",
            f"{tiling['cycles']:,.0f}",
            f"{tiling['nbytes'] / 1e3:,.1f}",
            f"{tiling['cost']:,.0f}",
        )
    console.print(
        f"\n{len(entry['tilings'])} tilings were compared by what they cost, cycles and a price for each byte:"
    )
    console.print(rows)
