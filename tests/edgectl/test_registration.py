"""The decorator that fills tables of functions."""

from __future__ import annotations

from collections.abc import Callable

from edgectl.registration import registering


def test_a_function_is_entered_under_each_of_its_keys_and_stays_what_it_is() -> None:
    table: dict[str, Callable[[int], int]] = {}
    enters = registering(table)

    @enters("twice", "double")
    def doubled(x: int) -> int:
        return 2 * x

    assert table == {"twice": doubled, "double": doubled} and doubled(3) == 6
