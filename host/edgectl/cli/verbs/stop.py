"""edgectl stop."""

from __future__ import annotations

from edgectl.cli.options import JsonOption, KindOption


def stop(board: KindOption = "sim", json: JsonOption = False) -> None:
    """End the simulated board."""
    from edgectl.boards.choosing import SimulatedChoice, choose
    from edgectl.cli.terminal import output, print_json
    from edgectl.errors import UsageError

    choice = choose(board)
    if not isinstance(choice, SimulatedChoice):
        raise UsageError(f"only simulated boards are stopped from here; {board} is not one")
    stopped = choice.simulated.stop()
    if json:
        print_json({"board": board, "stopped": stopped})
    else:
        output().print(
            f"the simulated board '{board}' is stopped" if stopped else f"the simulated board '{board}' was not running"
        )
