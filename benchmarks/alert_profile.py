"""The traffic of a model provider for a month, as a profile says: who calls, from where, and what nobody knows.

Everything follows from the seed. Calls come in messages of 100, each of one emitter; who calls follows Zipf's law.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from auditspan import semconv

__all__ = [
    "DAY",
    "MESSAGE",
    "PROFILE",
    "START",
    "Calls",
    "Profile",
    "calls_of",
    "registry_of",
    "spans_of",
]

DAY: Final = 86_400 * 10**9
START: Final = 1_795_564_800 * 10**9
"""2026-11-25T00:00:00Z."""
MESSAGE: Final = 100
_LATE: Final = 30 * DAY

_COUNTRIES: Final = ("US", "DE", "JP", "GB", "FR", "SG", "IN", "KR", "CA", "AE", "BR", "CN")
_SHARES: Final = (0.34, 0.12, 0.1, 0.1, 0.07, 0.06, 0.06, 0.05, 0.04, 0.02, 0.02, 0.02)

Int64s = npt.NDArray[np.int64]

HOME, NOWHERE, ROAMING, PROVISION, UNKNOWN_CHIP, WEIGHTS, LATE = range(7)
"""Kinds of calls: from home; with a destination that cannot be told; from China; an H100 in the US; an accelerator of
no table; weights to the party's country; a record whose clock is a month off."""


@dataclass(frozen=True)
class Profile:
    """What is assumed. Shares are of parties or of calls."""

    calls: int = 10_000_000
    parties: int = 5_000
    days: int = 30
    emitters: int = 4
    zipf: float = 1.1
    unknown_parent: float = 0.04
    """Parties whose ultimate parent the registry lacks at the beginning; each week half of what is left is found."""
    unknown_country: float = 0.006
    parent_in_china: float = 0.02
    new_customers_a_day: int = 6
    """Parties that call before the registry knows their credential; it is brought up to date each week."""
    strangers_a_day: int = 3
    """Credentials that never get into the registry, 20 calls each."""
    floods: tuple[tuple[int, int, int], ...] = ((10, 10_000, 1), (20, 4_000, 4))
    """Fresh credentials of one call each: day, how many, at how many emitters."""
    unplaced: tuple[float, float] = (0.03, 0.05)
    """Parties whose destination is not always known, and the share of their calls in which it is not."""
    kinds: tuple[float, ...] = (0.9868, 0.0, 0.0005, 0.01, 0.0002, 0.002, 0.0005)
    seed: int = 5

    @property
    def words(self) -> list[str]:
        """The profile as a reader wants it."""
        floods = "; ".join(f"{many:,} on day {day + 1} at emitters: {at}" for day, many, at in self.floods)
        return [
            f"{self.calls:,} calls by {self.parties:,} parties in {len(_COUNTRIES)} countries over {self.days} days, "
            f"by Zipf's law with exponent {self.zipf}, through {self.emitters} emitters.",
            f"The registry lacks the ultimate parent of {self.unknown_parent:.1%} of the parties and the country of "
            f"{self.unknown_country:.1%}; it is completed each week, by half of what is missing.",
            f"{self.new_customers_a_day} new customers a day call before the registry knows them, "
            f"{self.strangers_a_day} credentials a day stay unknown.",
            f"Floods of fresh credentials, a call each: {floods}.",
            f"Of the calls of {self.unplaced[0]:.0%} of the parties, {self.unplaced[1]:.0%} have no known destination; "
            f"{_SHARES[-1]:.0%} of the parties are in China, and {self.kinds[ROAMING]:.2%} of calls come from there.",
            f"Accelerators are provisioned in {self.kinds[PROVISION]:.2%} of calls, of an unknown model in "
            f"{self.kinds[UNKNOWN_CHIP]:.2%}; weights move in {self.kinds[WEIGHTS]:.2%}; a clock is a month off in "
            f"{self.kinds[LATE]:.2%}.",
        ]


PROFILE: Final = Profile()


@dataclass(frozen=True)
class Calls:
    """Calls in order of arrival, of one day: who (number of the credential), kind, emitter, arrival (ns)."""

    actor: Int64s
    kind: Int64s
    emitter: Int64s
    arrival: Int64s

    def __len__(self) -> int:
        """How many."""
        return len(self.actor)

    def messages(self, chosen: Int64s) -> Calls:
        """Those of the messages with these numbers."""
        rows = (chosen[:, None] * MESSAGE + np.arange(MESSAGE)).ravel()
        return Calls(self.actor[rows], self.kind[rows], self.emitter[rows], self.arrival[rows])


def calls_of(profile: Profile) -> Iterator[Calls]:
    """The calls of each day, whole messages."""
    random = np.random.default_rng(profile.seed)
    unplaced = random.random(profile.parties) < profile.unplaced[0]
    weight = 1 / (random.permutation(profile.parties) + 10.0) ** profile.zipf
    stranger = profile.parties
    for day in range(profile.days):
        known = profile.parties - profile.new_customers_a_day * (profile.days - 1 - day)
        share = weight[:known] / weight[:known].sum()
        usual = profile.calls // profile.days // MESSAGE * MESSAGE
        actor = random.choice(known, usual, p=share).astype(np.int64)
        # Whoever is new calls at least once on its first day.
        actor[: profile.new_customers_a_day] = np.arange(known - profile.new_customers_a_day, known)
        guests = 20 * profile.strangers_a_day
        actor[-guests:] = stranger + np.arange(guests) % profile.strangers_a_day
        stranger += profile.strangers_a_day
        kind = random.choice(len(profile.kinds), usual, p=profile.kinds).astype(np.int64)
        nowhere = unplaced[actor % profile.parties] & (random.random(usual) < profile.unplaced[1])
        kind[nowhere & (kind == HOME)] = NOWHERE
        mixed = random.permutation(usual)
        actor, kind = actor[mixed], kind[mixed]
        emitter = random.integers(0, profile.emitters, usual // MESSAGE)
        for when, many, at in profile.floods:
            if when == day:
                fresh = min(many, profile.calls // 100) // MESSAGE * MESSAGE
                actor = np.concatenate((actor, stranger + np.arange(fresh)))
                kind = np.concatenate((kind, np.full(fresh, HOME)))
                emitter = np.concatenate((emitter, np.arange(fresh // MESSAGE) % at))
                stranger += fresh
        order = random.permutation(len(emitter))
        rows = (order[:, None] * MESSAGE + np.arange(MESSAGE)).ravel()
        arrival = START + day * DAY + np.sort(random.integers(0, DAY, len(order)))
        yield Calls(actor[rows], kind[rows], np.repeat(emitter[order], MESSAGE), np.repeat(arrival, MESSAGE))


def credential(actor: int) -> str:
    """The fingerprint of a credential."""
    return f"sha256:{actor:032x}"


def _homes(profile: Profile) -> Int64s:
    """Where each party is, as numbers of countries."""
    random = np.random.default_rng(profile.seed + 2)
    return random.choice(len(_COUNTRIES), profile.parties, p=_SHARES).astype(np.int64)


def registry_of(profile: Profile, day: int) -> bytes:
    """The party registry that is in force on a day."""
    week = day // 7
    signed_up = profile.parties - profile.new_customers_a_day * (profile.days - 1)
    known = signed_up - profile.new_customers_a_day + week * 7 * profile.new_customers_a_day
    random = np.random.default_rng(profile.seed + 1)
    country = _homes(profile)
    fate = random.random((3, profile.parties))
    lines = ["parties:"]
    for party in range(min(known, profile.parties)):
        entry = [f"id: p{party:04}", f"name: Party {party}", f'credentials: ["{credential(party)}"]']
        if fate[0, party] >= profile.unknown_country / 2**week:
            entry.append(f"country: {_COUNTRIES[country[party]]}")
        if fate[1, party] < profile.parent_in_china:
            entry.append("ultimate_parent: {name: Shanghai Compute, country: CN}")
        elif fate[2, party] >= profile.unknown_parent / 2**week:
            entry.append("ultimate_parent: {name: Holding, country: US}")
        lines.append(f"  - {{{', '.join(entry)}}}")
    return "\n".join(lines).encode()


def spans_of(profile: Profile, actor: Int64s, kind: Int64s, arrival: Int64s) -> pa.Table:
    """What determination reads of such calls: attributes, class, times, basis, faults."""
    home = np.array(_COUNTRIES)[_homes(profile)[actor % profile.parties]]
    where = np.select(
        [kind == NOWHERE, kind == ROAMING, kind == PROVISION, kind == UNKNOWN_CHIP], ["??", "CN", "US", "SG"], home
    )
    classes = np.select(
        [(kind == PROVISION) | (kind == UNKNOWN_CHIP), kind == WEIGHTS],
        [str(semconv.EventClass.ACCELERATOR_PROVISION), str(semconv.EventClass.MODEL_TRANSFER)],
        str(semconv.EventClass.MODEL_ACCESS),
    )
    chip = np.select([kind == PROVISION, kind == UNKNOWN_CHIP], ["NVIDIA H100 80GB HBM3", "Zephyr X9"], "")
    late = kind == LATE
    return pa.table(
        {
            "class": pa.array(classes),
            semconv.AUDIT_ACTOR_ID: pa.array([credential(number) for number in actor.tolist()], pa.string()),
            semconv.DESTINATION_COUNTRY: pa.array(where),
            semconv.ACCELERATOR_MODEL: pa.array(chip, mask=chip == ""),
            "event_time": pa.array(np.where(late, arrival - _LATE, arrival)),
            "arrival_time": pa.array(arrival),
            "time_basis": pa.array(np.where(late, "both", "event")),
            "faults": pa.array([["time.outside_window"] if one else [] for one in late], pa.list_(pa.string())),
        }
    )
