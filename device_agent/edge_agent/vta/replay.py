"""Replays a stream whose costs are known: modules in parallel, each in order, their tokens, queues and the one bus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edge_agent.vta.schedule import COMMAND_QUEUE_DEPTH, TOKEN_QUEUE_DEPTH, Module


class Wait(IntEnum):
    """What a module stood idle for before an instruction: nothing, its fetching, or that module: a token of it, or room
    for one that it has to take.
    """

    NONE = 0
    FETCH = 1
    LOAD = 2
    COMPUTE = 3
    STORE = 4


@dataclass(frozen=True)
class Timing:
    """Predicted `cycles` of one run, and the cycles that each module was busy (the rest it waited)."""

    cycles: int
    load_busy: int
    compute_busy: int
    store_busy: int

    def seconds(self, clock_hz: int) -> float:
        return self.cycles / clock_hz


@dataclass(frozen=True)
class Work:
    """What each of n instructions needs, int64 (n,), cycles.

    `module` (a Module); `before` from its start to its request of the bus, or to its end where it needs no bus;
    `beats` on the bus; `after` from there to its end. The flags `pop_*` and `push_*` (bool) are the instruction's.
    """

    module: np.ndarray
    before: np.ndarray
    beats: np.ndarray
    after: np.ndarray
    pop_prev: np.ndarray
    pop_next: np.ndarray
    push_prev: np.ndarray
    push_next: np.ndarray


@dataclass(frozen=True)
class Trace:
    """When each of n instructions ran: all int64 (n,), by instruction, in cycles from the start of the run.

    It occupied its `module` from `start` to `end`. Before `start` the module stood idle for `idle` cycles since its
    instruction before, for the `reason` (a Wait). Between `start` and `end` it waited `bus_wait` cycles for transfers
    of other modules and then occupied the bus for `beats`.
    """

    timing: Timing
    module: np.ndarray
    start: np.ndarray
    end: np.ndarray
    idle: np.ndarray
    reason: np.ndarray
    bus_wait: np.ndarray
    beats: np.ndarray


def _neighbours(module: np.ndarray, previous: np.ndarray, following: np.ndarray) -> list[tuple[int, ...]]:
    """The modules before and after its own that each instruction exchanges tokens with, as two flags say."""
    columns = zip(module.tolist(), previous.tolist(), following.tolist(), strict=True)
    return [(of - 1,) * before + (of + 1,) * after for of, before, after in columns]


def replay(work: Work, fetch: int) -> Trace:
    """Run a valid stream. `fetch`: cycles to fetch an instruction.

    Modules run in order, wait for their tokens and for room for those that they give, and share the bus first come,
    first served; fetch hands out instructions in order and blocks on a full command queue.
    """
    modules, before, beats, after = (a.tolist() for a in (work.module, work.before, work.beats, work.after))
    takes_from = _neighbours(work.module, work.pop_prev, work.pop_next)
    gives_to = _neighbours(work.module, work.push_prev, work.push_next)
    total = len(modules)
    tokens: dict[tuple[int, int], deque[int]] = {(a, b): deque() for a in Module for b in Module if abs(a - b) == 1}
    roomy = dict.fromkeys(tokens, 0)
    """When a queue of tokens was full for the last time."""
    waiting: list[deque[int]] = [deque() for _ in Module]
    free, busy = [0] * len(Module), [0] * len(Module)
    fetched = [0] * total
    starts, ends, idles, reasons, bus_waits = ([0] * total for _ in range(5))
    next_fetch = fetch_time = bus_free = now = 0
    while True:
        # Hand out instructions until one's queue is full; `now` is when room was made.
        while next_fetch < total:
            queue = waiting[modules[next_fetch]]
            if len(queue) >= COMMAND_QUEUE_DEPTH:
                fetch_time = max(fetch_time, now)
                break
            fetch_time += fetch
            fetched[next_fetch] = fetch_time
            queue.append(next_fetch)
            next_fetch += 1
        chosen, start, reason = -1, 0, 0
        for module, queue in enumerate(waiting):
            if not queue:
                continue
            i = queue[0]
            ready, why = fetched[i], int(Wait.FETCH)
            if any(len(tokens[module, target]) >= TOKEN_QUEUE_DEPTH for target in gives_to[i]):
                continue
            for target in gives_to[i]:
                if (room := roomy[module, target]) > ready:
                    ready, why = room, target + int(Wait.LOAD)
            for source in takes_from[i]:
                given = tokens[source, module]
                if not given:
                    break
                if given[0] >= ready:
                    ready, why = given[0], source + int(Wait.LOAD)
            else:
                if ready <= free[module]:
                    ready, why = free[module], int(Wait.NONE)
                if chosen < 0 or ready < start:
                    chosen, start, reason = i, ready, why
        if chosen < 0:
            break
        module = modules[chosen]
        waiting[module].popleft()
        for source in takes_from[chosen]:
            if len(tokens[source, module]) == TOKEN_QUEUE_DEPTH:
                roomy[source, module] = start
            tokens[source, module].popleft()
        end = start + before[chosen]
        if beats[chosen]:
            # Latency is the module's own wait; only beats occupy the bus.
            bus_waits[chosen] = max(0, bus_free - end)
            end = bus_free = end + bus_waits[chosen] + beats[chosen]
        end += after[chosen]
        starts[chosen], ends[chosen], idles[chosen], reasons[chosen] = start, end, start - free[module], reason
        busy[module] += end - start
        free[module] = end
        for target in gives_to[chosen]:
            tokens[module, target].append(end)
        now = start
    timing = Timing(max(ends, default=0), *busy)
    start_of, end_of, idle, why_idle, bus_wait = (
        np.array(column, np.int64) for column in (starts, ends, idles, reasons, bus_waits)
    )
    return Trace(timing, work.module, start_of, end_of, idle, why_idle, bus_wait, work.beats)
