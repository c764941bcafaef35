"""What `edgectl sd` does and shows: a list for Prometheus, served, in a file, or on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.text import Text

from edgectl.boards.client import Address
from edgectl.boards.scrape_target_file import check_name, write_targets
from edgectl.boards.scrape_target_server import ScrapeTargetServer
from edgectl.boards.scrape_targets import ScrapeTarget, Targets, changes, target_groups
from edgectl.cli.terminal import failure, notices, output, print_json, table, waiting
from edgectl.errors import EdgectlError

Find = Callable[[], Targets]


def show(found: Targets, as_json: bool) -> None:
    """The list itself."""
    notices(found.notices)
    if as_json:
        print_json(target_groups(found.targets))
        return
    _table(found.targets)
    output().print("Next     edgectl sd --http, or edgectl sd --file PATH.json", markup=False)


def serve(place: str, find: Find, as_json: bool) -> None:
    """Serve the list at `place`, HOST:PORT with port 0 for a free one, until interrupted."""
    watched = _Watched(find)
    # Before anything listens, so that a damaged inventory ends this.
    found = watched()
    server = ScrapeTargetServer(_listening(place), watched)
    server.start()
    try:
        if as_json:
            print_json({"url": server.url, "targets": target_groups(found.targets)})
        else:
            _table(found.targets)
            output().print(f"served for Prometheus at {server.url}; Ctrl-C ends it", markup=False)
        output().file.flush()
        watched.tell = True
        while True:
            time.sleep(3600)
    finally:
        server.close()


def keep_file(path: Path, find: Find, once: bool, every: float, as_json: bool) -> None:
    """Keep the list in a file, looking around `every` so many seconds, `once` or until interrupted. Where that fails
    later, the file stays as it is and the reason is said."""
    check_name(path)
    watched = _Watched(find)
    found = watched()
    written = write_targets(path, found.targets)
    if as_json:
        print_json({"file": str(path), "written": written, "targets": target_groups(found.targets)})
    else:
        _table(found.targets)
        said = "written to" if written else "as they are already in"
        output().print(f"{said} {path}" + ("" if once else "; Ctrl-C ends this"), markup=False)
    output().file.flush()
    watched.tell = True
    while not once:
        time.sleep(every)
        try:
            write_targets(path, watched().targets)
        except EdgectlError as error:
            watched.complain(str(error))


class _Watched:
    """Looks around, and once it is to `tell` says on standard error what has changed since the last time."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._last = Targets(())
        self._complaint = ""
        self.tell = False

    def __call__(self) -> Targets:
        try:
            found = self._find()
        except EdgectlError as error:
            if self.tell:
                self.complain(str(error))
            raise
        notices([text for text in found.notices if text not in self._last.notices])
        if self.tell:
            for line in changes(self._last.targets, found.targets):
                waiting(line)
        self._last, self._complaint = found, ""
        return found

    def complain(self, message: str) -> None:
        """Say what is wrong, once until it is right again or something else is wrong."""
        if message != self._complaint:
            failure(message)
        self._complaint = message


def _listening(place: str) -> Address:
    host, _, port = place.rpartition(":")
    return Address(Address.parse(f"{host}:1").host, 0) if port == "0" else Address.parse(place)


def _table(targets: Sequence[ScrapeTarget]) -> None:
    if not targets:
        output().print("no board: write one down with `edgectl boards add`, or start one with `edgectl deploy MODEL`")
        return
    rows = table("board", "type", "scraped at", "known from", "id")
    for target in targets:
        cells = (target.board, target.type, str(target.address), target.source, target.id[:12])
        # As text: what others call themselves is no markup.
        rows.add_row(*(Text(cell or "-") for cell in cells))
    output().print(rows)
