"""edgectl inspect."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import JsonOption


def inspect(
    path: Annotated[str, typer.Argument(help="A bundle, or a VTA program (.vta).")],
    disassemble: Annotated[bool, typer.Option("--disassemble", "-d", help="List the VTA instructions.")] = False,
    program: Annotated[str, typer.Option("--program", help="Only this program of a bundle.")] = "",
    layer: Annotated[str, typer.Option("--layer", help="Only this layer's instructions (with --disassemble).")] = "",
    json: JsonOption = False,
) -> None:
    """What is in a bundle or a program, down to the VTA instructions.

    \b
    edgectl inspect resnet18.bundle
    edgectl inspect resnet18.bundle --disassemble --layer resnetv10_stage1_relu0_fwd
    """
    from edgectl.cli.terminal import output, print_json, table
    from edgectl.inspecting import describe, listing, open_programs

    opened = open_programs(path, program)
    if disassemble:
        lines = listing(opened, layer)
        if json:
            print_json(lines)
        else:
            for line in lines:
                typer.echo(line)
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
        rows = table(
            "layer",
            "instructions",
            "load",
            "gemm",
            "alu",
            "store",
            right=("instructions", "load", "gemm", "alu", "store"),
        )
        for row in entry["layers"]:
            rows.add_row(row["name"], *(f"{row[key]:,}" for key in ("instructions", "load", "gemm", "alu", "store")))
        console.print(rows)
    if document["steps"]:
        console.print()
        rows = table("step", "runs", "computes")
        for number, step in enumerate(document["steps"]):
            rows.add_row(str(number), step["runs"], ", ".join(step["layers"]))
        console.print(rows)
