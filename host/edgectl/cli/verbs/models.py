"""edgectl models."""

from __future__ import annotations

from edgectl.cli.options import JsonOption


def models(json: JsonOption = False) -> None:
    """The models that edgectl knows by name."""
    from edgectl.cli.terminal import output, print_json, table
    from edgectl.frontends import zoo

    entries = list(zoo.entries().values())
    if json:
        print_json(
            [
                {
                    "name": e.name,
                    "input_shape": e.input_shape,
                    "labels": e.labels,
                    "weights": "ships" if e.parameters else "downloaded",
                }
                for e in entries
            ]
        )
        return
    rows = table("model", "input", "classes", "weights")
    for entry in entries:
        rows.add_row(
            entry.name,
            "x".join(map(str, entry.input_shape[1:])),
            entry.labels,
            "in the package" if entry.parameters else "downloaded",
        )
    output().print(rows)
