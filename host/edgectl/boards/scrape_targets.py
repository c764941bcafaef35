"""What Prometheus is to scrape: the boards of `edgectl boards` in the form of its service discovery.

Nobody is asked anything for it, so a board that is down stays a target, whose silence is what has to be noticed. What
boards say of themselves unasked (mDNS, trackers) is not authenticated: it is taken only where it was asked for, takes
no known board's name or address, and is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_agent.boards import profile_names
from edge_agent.listening import is_loopback
from edgectl.boards.client import Address
from edgectl.boards.discovery import LISTING_SECONDS
from edgectl.boards.inventory import DEFAULT_HTTP_PORT
from edgectl.boards.listing import BoardEntry, survey
from edgectl.boards.metrics_address import ON_LOOPBACK, is_host

SOURCES = {"profile": "simulated"}
"""How sources are called here, where that is another name than in a list of boards."""
HEARSAY = frozenset({"mdns", "tracker"})


@dataclass(frozen=True)
class ScrapeTarget:
    """A board's HTTP port. `board` is a name that no other target has."""

    address: Address
    board: str
    source: str
    type: str = ""
    id: str = ""
    model: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """Its meta labels, which the configuration of Prometheus chooses from; what is not known is left out."""
        values = {"board": self.board, "source": self.source, "type": self.type, "id": self.id, "model": self.model}
        return {f"__meta_edge_{name}": value for name, value in values.items() if value}


@dataclass(frozen=True)
class Targets:
    """What to scrape, and what cannot be scraped."""

    targets: tuple[ScrapeTarget, ...]
    notices: tuple[str, ...] = ()


def find_targets(tracker: Address | None = None, discovered: bool = False) -> Targets:
    """The simulated boards that run, those of the inventory, and where asked for those that announce themselves and
    those that a `tracker` lists.

    Raises UsageError where the inventory is damaged, and what a tracker's connection raises.
    """
    found = survey(tracker, LISTING_SECONDS if discovered else 0.0, ask=False)
    hidden = [entry.name for entry in found.entries if "inventory" in entry.sources and not entry.metrics_url]
    notices = [
        f"'{name}' is not scraped: its metrics are {ON_LOOPBACK}, and write http_host = \"0.0.0.0\" into your inventory"
        for name in hidden
    ]
    return Targets(scrape_targets(found.entries, tracker), (*found.notices, *notices))


def scrape_targets(entries: Iterable[BoardEntry], tracker: Address | None = None) -> tuple[ScrapeTarget, ...]:
    """The targets among boards, one for each address: the first that claims it, in the order of `entries`."""
    found: dict[Address, ScrapeTarget] = {}
    names: set[str] = set()
    for entry in entries:
        address = _address(entry, tracker)
        if address is None or address in found:
            continue
        source = entry.sources[0]
        taken = names | set(profile_names()) if source in HEARSAY else names
        candidates = (entry.name, f"{entry.name}-{entry.id[:8] or address.host}", f"{entry.name}-{address}")
        name = next((candidate for candidate in candidates if candidate not in taken), str(address))
        names.add(name)
        found[address] = ScrapeTarget(address, name, SOURCES.get(source, source), entry.type, entry.id, entry.model)
    return tuple(found.values())


def _address(entry: BoardEntry, tracker: Address | None) -> Address | None:
    if entry.metrics_url:
        return Address.parse(urlsplit(entry.metrics_url).netloc)
    if entry.sources != ("tracker",):
        return None
    # Registrations have no HTTP port: the usual one. Nor do they send anybody to services of their own machine.
    host = Address.parse(entry.address).host
    own = is_loopback(host) and not (tracker is not None and is_loopback(tracker.host))
    return None if own or not is_host(host) else Address(host, DEFAULT_HTTP_PORT)


def target_groups(targets: Iterable[ScrapeTarget]) -> list[Mapping[str, object]]:
    """Targets as Prometheus reads them, from HTTP or a file: a group for each, as each has its own labels."""
    return [{"targets": [str(target.address)], "labels": target.labels} for target in targets]


def as_json(targets: Iterable[ScrapeTarget]) -> bytes:
    """The same as a document: `[]` without a target."""
    return json.dumps(target_groups(targets), indent=1).encode() + b"\n"


def changes(before: Sequence[ScrapeTarget], after: Sequence[ScrapeTarget]) -> list[str]:
    """What has come and gone, a line for each."""
    gone = [f"- {target.board} {target.address}" for target in before if target not in after]
    return gone + [f"+ {target.board} {target.address}" for target in after if target not in before]
