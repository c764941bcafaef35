#!/usr/bin/env python3
"""Stands in for journalctl: the last three lines that a unit has written."""

from __future__ import annotations

import sys
from pathlib import Path

for unit in [after for before, after in zip(sys.argv, sys.argv[1:], strict=False) if before == "--unit"]:
    path = Path(f"/run/units/{unit}.service.log")
    if path.exists():
        print("\n".join(path.read_text().splitlines()[-3:]))
