"""Which fault comes next, at what instant: all of it follows from a seed that is printed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    KILL = "kill"
    """SIGKILL under load, started again after a while."""
    KILL_STARTING = "kill while starting"
    """SIGKILL a second time, wherever it is on its way up."""
    PAUSE = "pause"
    """SIGSTOP for a moment, then SIGCONT."""
    ZOMBIE = "zombie"
    """SIGSTOP for longer than the session timeout, then SIGCONT: it believes to own what others own by now."""
    STORE = "store"
    """The way to the store answers late, loses answers, answers with HTTP 500, cuts requests."""
    DISK = "full disk of"
    """Every write to its disk is refused until it ends itself; started again after a while, with room."""


@dataclass(frozen=True)
class Fault:
    """One fault: after ``wait`` seconds under load, on ``target``, undone ``hold`` seconds later."""

    wait: float
    kind: Kind
    target: str
    hold: float
    dice: int
    """For whatever else must be chosen."""

    @property
    def kills(self) -> int:
        return {Kind.KILL: 1, Kind.KILL_STARTING: 2}.get(self.kind, 0)


def schedule(
    seed: int,
    weights: Mapping[str, float],
    kills: int,
    *,
    zombies: Sequence[str] = (),
    zombie_seconds: float = 0.0,
    proxied: Sequence[str] = (),
    fillable: Sequence[str] = (),
    pace: float = 1.2,
) -> Iterator[Fault]:
    """Faults until there were ``kills`` kills, each of ``zombies`` was a zombie, and each of ``fillable`` had no room.

    Args:
        seed: the same gives the same faults.
        weights: how often each target is chosen.
        kills: SIGKILLs in all.
        zombies: targets that are suspended for ``zombie_seconds``, spread over the run.
        zombie_seconds: longer than a session timeout.
        proxied: targets whose way to the store can be disturbed.
        fillable: targets whose disk becomes full, spread over the run.
        pace: longest wait between two faults, seconds.
    """
    dice = random.Random(seed)
    names = sorted(weights)
    left = [(Kind.ZOMBIE, name, zombie_seconds) for name in zombies] + [(Kind.DISK, name, 0.5) for name in fillable]
    done = 0
    while done < kills or left:
        wait, number = dice.uniform(0, pace), dice.randrange(2**32)
        if left and (done >= kills or dice.random() < len(left) / (kills - done + len(left))):
            kind, target, hold = left.pop(dice.randrange(len(left)))
            yield Fault(wait, kind, target, hold, number)
            continue
        chance = dice.random()
        if proxied and chance < 0.15:
            yield Fault(wait, Kind.STORE, dice.choice(sorted(proxied)), dice.uniform(0.5, 2.0), number)
            continue
        target = dice.choices(names, [weights[name] for name in names])[0]
        if chance < 0.27:
            yield Fault(wait, Kind.PAUSE, target, dice.uniform(0.1, 1.5), number)
            continue
        kind = Kind.KILL_STARTING if chance < 0.40 and done + 2 <= kills else Kind.KILL
        fault = Fault(wait, kind, target, dice.uniform(0, 1.0), number)
        done += fault.kills
        yield fault
