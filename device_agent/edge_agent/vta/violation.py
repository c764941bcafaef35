"""A broken rule, before it is known which program and layer it is in."""

from __future__ import annotations


class Violation(Exception):
    """`rule` is its short name, `detail` what is wrong; `instruction` where, or -1 for the one being checked."""

    def __init__(self, rule: str, detail: str, instruction: int = -1) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
        self.instruction = instruction
