"""What anchors prove of honest packages, and how exactly a report says it. Attacks: `anchored.anchor_attacks`."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from anchored import EVERYTHING, Vouchers, anchor_attacks, control_checkpoints, skipping_world
from auditspan.exporters.evidence.anchors import packaged_anchors
from auditspan.exporters.evidence.rendering import render
from auditspan.exporters.evidence.report import Report
from auditspan.exporters.evidence.verify import verify_package
from auditspan.exporters.evidence.verify_anchors import Anchored, Voucher
from exported import export
from hypothesis import given
from hypothesis import strategies as st
from prepared import Workshop
from rich.console import Console
from sealed_world import SECOND, T0, World, table_of, varied_world
from tampering import repair, statement_of

from auditspan.ledger.trust import AnchorPolicy, Trust
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch, StoredAnchor

NOW = 1_795_600_000


@pytest.fixture(scope="module")
def vouchers(openssl_here: None, tmp_path_factory: pytest.TempPathFactory) -> Vouchers:
    return Vouchers(tmp_path_factory.mktemp("vouchers"))


def cosigned(store: ClickHouseStore, vouchers: Vouchers, world: World, *times: int | None) -> None:
    """Both witnesses vouch for the control checkpoints of the world's batches, each at its time (s)."""
    for checkpoint, seconds in zip(control_checkpoints(world), times, strict=False):
        if seconds is None:
            continue
        store.append_anchors(
            [
                StoredAnchor(
                    checkpoint.log_id,
                    checkpoint.size,
                    "cosignature",
                    one.name,
                    one.cosign(checkpoint.note, seconds),
                    seconds * SECOND,
                )
                for one in vouchers.witnesses
            ]
        )


def verified(store: ClickHouseStore, world: World, folder: Path, trust: Trust, **options: Any) -> Report:
    world.store_into(store)
    export(store, world, folder, **EVERYTHING | options)
    return verify_package(folder, trust)


def of_log(report: Report, log_id: str) -> dict[str, Any]:
    return dict(next(log for log in report.anchors["logs"] if log["log_id"] == log_id))


def text_of(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    render(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_all_of_them_vouch_and_the_report_says_so(store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path) -> None:
    world = varied_world()
    for checkpoint in control_checkpoints(world):
        store.append_anchors(vouchers.all_of(checkpoint, int(time.time()) - 5))
    report = verified(store, world, tmp_path / "package", vouchers.trust(world))
    assert report.verdict == "VALID", report.faults
    assert report.anchors["demanded"] == {"witnesses": 2, "timestamp_authorities": 1}
    assert len(report.anchors["vouchers"]) == 9 and report.anchors["not_trusted"] == 0
    for log in world.logs:
        said = of_log(report, log.log_id)
        assert said["anchored_to"] == len(log.rows) and said["open"] is None
        assert set(said["by"]) == {
            "witness witness.example/1", "witness witness.example/2", "timestamp authority authority.example",
        }  # fmt: skip
    shown = text_of(report)
    assert "2 of 2 witnesses and 1 of 1 timestamp authorities demanded" in shown
    assert f"events-0: leaves up to {len(world.logs[0].rows)} existed at 20" in shown
    not_proven = " ".join(report.not_proven)
    assert "not since when" in not_proven and "would have had to cosign that one as well" in not_proven
    assert "trust.json demands 0" not in not_proven
    assert "no anchor in the package covers" not in not_proven, "the last checkpoint is anchored, and covers all"


def test_the_time_is_when_as_many_as_demanded_had_vouched(
    store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path
) -> None:
    world, (first, second) = varied_world(), vouchers.witnesses
    checkpoint = control_checkpoints(world)[-1]
    for witness, seconds in ((first, NOW), (second, NOW + 70)):
        line = witness.cosign(checkpoint.note, seconds)
        store.append_anchors(
            [StoredAnchor(checkpoint.log_id, checkpoint.size, "cosignature", witness.name, line, seconds * SECOND)]
        )
    report = verified(store, world, tmp_path / "package", vouchers.trust(world, 2, 0))
    log_id = world.logs[0].log_id
    assert of_log(report, log_id)["existed_at"] == "2026-11-25T09:47:50Z"
    alone = verify_package(tmp_path / "package", vouchers.trust(world, 1, 0))
    assert of_log(alone, log_id)["existed_at"] == "2026-11-25T09:46:40Z"
    assert of_log(alone, log_id)["by"] == ["witness witness.example/1"]


def test_sources_that_vouch_for_different_checkpoints_count_together(
    store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path
) -> None:
    """Whoever vouches for a checkpoint vouches for all smaller ones."""
    world = varied_world()
    sizes = control_checkpoints(world)
    for witness, checkpoint in zip(vouchers.witnesses, (sizes[1], sizes[2]), strict=True):
        line = witness.cosign(checkpoint.note, NOW)
        store.append_anchors(
            [StoredAnchor(checkpoint.log_id, checkpoint.size, "cosignature", witness.name, line, NOW * SECOND)]
        )
    report = verified(store, world, tmp_path / "package", vouchers.trust(world, 2, 0))
    assert report.verdict == "VALID"
    said = of_log(report, world.logs[0].log_id)
    assert said["anchored_to"] == world.logs[0].batches[1][1], "as far as the one that vouched for less"
    assert said["open"] == [world.logs[0].batches[1][1], len(world.logs[0].rows)]
    assert any(f"leaves [{said['open'][0]}, {said['open'][1]}) of events-0" in one for one in report.not_proven)


def test_quiet_times_are_named(store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path) -> None:
    world = varied_world()
    cosigned(store, vouchers, world, NOW, NOW + 10, NOW + 400)
    report = verified(store, world, tmp_path / "package", vouchers.trust(world, 2, 0))
    batches = world.logs[0].batches
    assert of_log(report, world.logs[0].log_id)["largest_stretch"] == {
        "leaves": [batches[1][1], batches[2][1]],
        "from": "2026-11-25T09:46:50Z",
        "to": "2026-11-25T09:53:20Z",
        "seconds": 390.0,
    }
    assert "neighbouring anchors at most 390 s apart" in text_of(report)


@pytest.mark.parametrize("version", [1, 2])
def test_nobody_demanded_is_valid_and_said(
    version: int, store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path
) -> None:
    world = varied_world()
    cosigned(store, vouchers, world, NOW, NOW, NOW)
    known = vouchers.trust(world, 0, 0)
    trust = world.trust if version == 1 else known
    report = verified(store, world, tmp_path / "package", trust)
    assert report.verdict == "VALID"
    not_proven = " ".join(report.not_proven)
    assert "trust.json demands 0 of its" in not_proven
    if version == 1:
        assert "no timestamp authority or witness that trust.json names vouches for any leaf" in not_proven
        assert report.anchors["not_trusted"] == 6
        assert "6 tokens and cosignatures of others" in text_of(report)
    else:
        assert of_log(report, world.logs[0].log_id)["by"] == ["witness witness.example/1"], "the first is enough"


def test_fewer_than_demanded_is_a_fault(store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path) -> None:
    world = varied_world()
    cosigned(store, vouchers, world, NOW, NOW, NOW)
    report = verified(store, world, tmp_path / "package", vouchers.trust(world, 2, 1))
    assert report.fault_counts == {"anchor.policy": 1}
    assert "2 witnesses and 1 timestamp authorities" in report.faults[0].expected
    assert report.faults[0].actual.startswith("2 and 0;")


def test_a_package_without_the_key_is_one_without_anchors(packages: dict[str, Path], world: World, copy: Any) -> None:
    folder = copy("later")
    repair(folder, world.key, lambda predicate: predicate.pop("anchors"))
    assert verify_package(folder, world.trust).verdict == "VALID"
    demanding = replace(world.trust, policy=AnchorPolicy(1, 0))
    assert verify_package(folder, demanding).fault_counts == {"anchor.policy": 1}


def test_a_clock_that_is_a_little_ahead_is_no_fault(store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path) -> None:
    world = varied_world()
    cosigned(store, vouchers, world, None, None, int(time.time()) + 290)
    assert verified(store, world, tmp_path / "package", vouchers.trust(world, 2, 0)).verdict == "VALID"


def test_the_first_anchor_behind_an_interval_covers_its_end(
    store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path
) -> None:
    """The round that it rests on states a size that lies beyond the interval: the manifest proves it."""
    world = skipping_world("skips")
    cosigned(store, vouchers, world, None, NOW + 100, NOW + 900)
    folder = tmp_path / "package"
    report = verified(store, world, folder, vouchers.trust(world, 2, 0), time_to=T0 + 50 * SECOND)
    assert report.verdict == "VALID", report.faults
    (log,) = statement_of(folder)["predicate"]["logs"]
    _, end = log["interval"]
    assert end < log["anchored"]["size"] < int(log["checkpoint"].split("\n")[1])
    said = of_log(report, log["log_id"])
    assert (said["anchored_to"], said["existed_at"]) == (end, "2026-11-25T09:48:20Z"), "the earlier of the two"
    repair(folder, world.key, lambda predicate: predicate["logs"][0].pop("anchored"))
    without = of_log(verify_package(folder, vouchers.trust(world, 2, 0)), log["log_id"])
    assert without["existed_at"] == "2026-11-25T10:01:40Z", "what is not shown to be of this history counts for nothing"


def test_an_export_takes_few_of_many(store: ClickHouseStore, vouchers: Vouchers) -> None:
    """Of each source the newest, the first behind and the last before the interval; inside, at even distances."""
    world = World("many", logs=1)
    for number in range(130):
        world.logs[0].event(T0 + number * SECOND, sequence=number)
        world.batch(T0 + number * SECOND)
    store.append_batch(SealedBatch(world.control.log_id, 0, table_of(world.control.rows)))
    store.append_checkpoints(world.checkpoints)
    witness, other = vouchers.witnesses
    checkpoints = control_checkpoints(world)
    anchors = [
        StoredAnchor(one.log_id, one.size, "cosignature", who.name, who.cosign(one.note, NOW), NOW * SECOND)
        for number, one in enumerate(checkpoints)
        for who in ((witness, other) if number % 50 == 0 else (witness,))
    ]
    store.append_anchors(anchors)
    begin, end, last = checkpoints[10].size, checkpoints[120].size, checkpoints[-1].size
    packaged = packaged_anchors(store, world.control.log_id, begin, end, last, {})
    sizes = [int(entry["note"].split("\n")[1]) for entry in packaged.entries]
    assert sizes == sorted(set(sizes)) and len(sizes) < 60
    for wanted in (0, 10, 100, 120, 129):
        assert checkpoints[wanted].size in sizes, wanted
    inside = [size for size in sizes if begin < size < end]
    assert len(inside) >= 40 and max(b - a for a, b in pairwise(inside)) <= (end - begin) / 15
    assert [leaf.index for leaf in packaged.rounds] == [
        row["leaf_index"]
        for row in world.control.rows
        if row["class"] == "audit.checkpoint"
        and any(row["leaf_index"] == size - 2 for size in sizes)
        and not begin <= row["leaf_index"] < end
    ]


def test_a_store_of_an_older_schema_has_no_anchors(store: ClickHouseStore, tmp_path: Path) -> None:
    world = varied_world()
    store.command("DROP TABLE auditspan.anchors")
    assert store.newest_anchors(world.control.log_id) == []
    assert verified(store, world, tmp_path / "package", world.trust).verdict == "VALID"


def test_hostile_anchors_are_bounded(packages: dict[str, Path], world: World, copy: Any) -> None:
    folder = copy("later")
    entry = {"note": "x", "timestamps": [], "consistency": []}
    for anchors in ([entry] * 300, [entry | {"timestamps": ["AA=="] * 40}], [entry | {"note": "x" * 70_000}],
                    [entry | {"timestamps": ["A" * 100_000]}], {"note": "x"}, [7], [{"note": 7}]):  # fmt: skip
        repair(folder, world.key, lambda predicate, anchors=anchors: predicate.update(anchors=anchors))
        assert set(verify_package(folder, world.trust).fault_counts) == {"manifest.malformed"}


@pytest.fixture(scope="module")
def attacks(
    packages: dict[str, Path], world: World, vouchers: Vouchers, tmp_path_factory: pytest.TempPathFactory
) -> Workshop:
    folder = tmp_path_factory.mktemp("attacks")
    made = ClickHouseStore.embedded(folder / "store")
    try:
        made.migrate()
        workshop = Workshop(folder, packages, world)
        anchor_attacks(workshop, made, vouchers)
    finally:
        made.close()
    return workshop


def test_every_attack_on_anchors_is_found_by_its_code(attacks: Workshop) -> None:
    assert len(attacks.made) >= 17
    for prepared in attacks:
        report = verify_package(prepared.folder, prepared.trust)
        assert prepared.is_found(report), (prepared.name, report.fault_counts)
        assert set(report.fault_counts) == {code for code, _ in prepared.expected}, prepared.name


def test_what_is_attacked_is_valid_before(attacks: Workshop, vouchers: Vouchers) -> None:
    honest = verify_package(attacks.folder / "anchored", vouchers.trust(varied_world("anchored")))
    assert honest.verdict == "VALID", honest.faults


def test_who_trusts_nobody_still_sees_what_no_honest_exporter_writes(attacks: Workshop, world: World) -> None:
    """A token over something else is a fault for everybody; whose it is matters only to those who trust somebody."""
    by_name = {prepared.name: prepared for prepared in attacks}
    keys = Trust(world.trust.deployment, world.trust.keys)
    codes = {name: set(verify_package(one.folder, keys).fault_counts) for name, one in by_name.items()}
    assert codes["a token over another checkpoint"] == {"anchor.timestamp"}
    assert codes["a token that is none"] == {"anchor.timestamp"}
    assert codes["a split view"] == {"anchor.consistency"}
    assert codes["a stripped timestamp"] == set()


KINDS = st.sampled_from(["witness", "timestamp authority"])
SAID = st.lists(st.builds(Voucher, KINDS, st.sampled_from("abc"), st.integers(1, 6), st.integers(1, 6)), max_size=12)


@given(SAID, st.integers(0, 3), st.integers(0, 3), st.integers(0, 7))
def test_a_size_is_anchored_once_as_many_as_demanded_vouch(
    said: list[Voucher], witnesses: int, authorities: int, size: int
) -> None:
    """Against the definition, tried moment by moment."""
    anchored = Anchored(AnchorPolicy(witnesses, authorities), said)

    def enough(moment: int) -> bool:
        there = {(one.kind, one.name) for one in said if one.size >= size and one.time <= moment}
        counts = [sum(kind == wanted for kind, _ in there) for wanted in ("witness", "timestamp authority")]
        return bool(there) if not witnesses + authorities else counts[0] >= witnesses and counts[1] >= authorities

    found = anchored.at(size)
    assert (None if found is None else found[0]) == next((moment for moment in range(8) if enough(moment)), None)
    if found is not None:
        assert len(set(found[1])) == len(found[1]) == max(witnesses + authorities, 1)


def test_what_was_vouched_for_before_the_interval_is_not_enough(
    store: ClickHouseStore, vouchers: Vouchers, tmp_path: Path
) -> None:
    world, late = varied_world(), {"time_from": T0 + 111 * SECOND}
    cosigned(store, vouchers, world, NOW)
    report = verified(store, world, tmp_path / "early", vouchers.trust(world, 2, 0), **late)
    assert len(report.anchors["vouchers"]) == 2, "the last before the interval is in the package"
    assert report.fault_counts == {"anchor.policy": 1}
    cosigned(store, vouchers, world, None, None, NOW + 50)
    report = verified(store, world, tmp_path / "late", vouchers.trust(world, 2, 0), **late)
    assert report.verdict == "VALID"
