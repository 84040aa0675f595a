"""One run of the crash matrix: load, faults from a seed, and what must hold of everything afterwards."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from balancer import Balancer
from delivered import Delivered, Diary, read_diaries
from final_checks import SealedLog, Witness, catch_up, prove
from members import Supervisor
from running_service import PROGRAM
from schedule import Fault, Kind
from tcp_proxy import Fault as WayFault
from topologies import Topology
from waiting import until

HERE = Path(__file__).parent
INSERT = b"INSERT INTO auditspan.events"
LOST_SHARE = 0.08
"""Of acknowledgements over HTTP; the matrix asks for 5 % at least."""


def seed_of_run() -> int:
    """From ``AUDITSPAN_TEST_SEED``, or drawn; printed, so that the run can be repeated."""
    seed = int(os.environ.get("AUDITSPAN_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"AUDITSPAN_TEST_SEED={seed}", flush=True)
    return seed


@dataclass
class Load:
    """Recorders and stock exporters at work, and their diaries."""

    topology: Topology
    balancer: Balancer
    diary: Diary
    folder: Path
    tokens: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)

    def start(self, name: str) -> None:
        diary = self.folder / f"{name}.diary"
        environment = {n: v for n, v in os.environ.items() if not n.startswith("AUDITSPAN_")}
        environment |= {"AUDITSPAN_TOKEN": self.tokens[name], "AUDITSPAN_ENDPOINT": self.balancer.url}
        if name.startswith("recorder"):
            environment["AUDITSPAN_SPOOL_DIRECTORY"] = str(self.folder / f"{name}.spool")
            arguments = [HERE / "recording.py", name, diary]
        else:
            arguments = [HERE / "exporting.py", name, diary, self.balancer.url, *self.topology.otlp_grpc]
        with (self.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def kill(self, name: str) -> None:
        """SIGKILL a load: what it recorded is in its spool, and the next process on it finds that."""
        process = self.processes.pop(name)
        assert process.poll() is None, self.said(name)
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        self.killed[name] += 1

    def acknowledged(self) -> int:
        return self.diary.acknowledgements

    def finish(self, seconds: float = 180.0) -> None:
        """Let all end as they do in the field: recorders when everything they recorded is acknowledged."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for name, process in self.processes.items():
            assert process.wait(seconds) == 0, self.said(name)

    def ship_what_the_dead_left(self) -> int:
        """`auditspan spool ship` on the spools of killed recorders; how many records it delivered.

        The next process on a spool does that beside its own records; one that is told to end may not come to it.
        """
        records = 0
        for name in self.killed:
            done = subprocess.run(
                [
                    PROGRAM,
                    "spool",
                    "ship",
                    "--json",
                    f"--spool={self.folder / name}.spool",
                    f"--endpoint={self.balancer.url}",
                ],
                capture_output=True,
                text=True,
                env={**os.environ, "AUDITSPAN_TOKEN": self.tokens[name]},
            )
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
            records += json.loads(done.stdout)["acknowledged"]
        return records

    def said(self, name: str) -> str:
        return f"{name}:\n" + (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def delivered(self) -> Delivered:
        return read_diaries(sorted(self.folder.glob("*.diary")))


@contextmanager
def load_on(topology: Topology, folder: Path, seed: int, recorders: int = 2, exporters: int = 2) -> Iterator[Load]:
    """Loads on a topology whose collectors are ready."""
    folder.mkdir()
    names = [f"recorder-{i}" for i in range(recorders)] + [f"exporter-{i}" for i in range(exporters)]
    tokens = {name: topology.token(name) for name in names}
    diary = Diary(folder / "balancer.diary")
    emitters = {token: name for name, token in tokens.items()}
    balancer = Balancer(topology.otlp_http, emitters, diary, LOST_SHARE, seed)
    load = Load(topology, balancer, diary, folder, tokens)
    try:
        for name in names:
            load.start(name)
        yield load
    finally:
        load.close()
        balancer.close()


class Runner:
    """Carries out faults on a topology, one after the other, each once there was progress since the last."""

    def __init__(self, topology: Topology, load: Load, supervisor: Supervisor, witness: Witness) -> None:
        self._topology = topology
        self._load = load
        self._supervisor = supervisor
        self._witness = witness
        self.done: Counter[str] = Counter()

    def run(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            before = self._load.acknowledged()
            until(lambda before=before: self._load.acknowledged() > before, f"progress before {fault}", 120)
            time.sleep(fault.wait)
            self._strike(fault)
            self.done[f"{fault.kind.value} {fault.target.rpartition('-')[0] or fault.target}"] += 1

    @property
    def kills(self) -> int:
        counts = {Kind.KILL.value: 1, Kind.KILL_STARTING.value: 2}
        return sum(n * times for what, n in self.done.items() for name, times in counts.items() if _is(what, name))

    def _strike(self, fault: Fault) -> None:
        if fault.kind is Kind.STORE:
            self._disturb(fault)
            return
        with self._supervisor.held(fault.target) as member:
            if member.process is None or member.ended_with() is not None:
                member.start()
            if fault.kind is Kind.DISK:
                with self._topology.full_disk(fault.target):
                    until(lambda: member.ended_with() is not None, f"{fault.target} to end itself", 60)
                    time.sleep(fault.hold)
                member.start()
                return
            if fault.kind in (Kind.PAUSE, Kind.ZOMBIE):
                member.suspend()
                time.sleep(fault.hold)
                member.resume()
                return
            member.kill()
            self._witness.read_signer()
            time.sleep(fault.hold)
            member.start()
            if fault.kind is Kind.KILL_STARTING:
                time.sleep(random.Random(fault.dice).uniform(0.1, 2.5))
                if member.process is not None and member.ended_with() is None:
                    member.kill()
                member.start()

    def _disturb(self, fault: Fault) -> None:
        dice = random.Random(fault.dice)
        way = self._topology.store_ways[fault.target]
        made = dice.choice(
            [
                WayFault.drop_answer(INSERT),
                WayFault.drop_answer(INSERT, times=3),
                WayFault.delay_answer(INSERT, fault.hold),
                WayFault.cut_request(INSERT, dice.randrange(5000)),
                WayFault.cut_answer(INSERT, dice.randrange(200)),
                WayFault.error_answer(INSERT, times=2),
                WayFault.cut_request(b"SELECT"),
            ]
        )
        way.inject(made)
        made.struck.wait(fault.hold + 2.0)
        way.heal()


def _is(what: str, kind: str) -> bool:
    return what.startswith(kind + " ") and not (kind == "kill" and what.startswith("kill while"))


@dataclass(frozen=True)
class Totals:
    """What a run amounted to, for people."""

    kills: int
    faults: Counter[str]
    ends: Counter[tuple[str, int, str]]
    payloads: int
    recorded: int
    lost_answers: int
    suppressed: int
    left_behind: int
    checkpoints: int
    leaves: int

    def __str__(self) -> str:
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items()))
        ends = ", ".join(
            f"{count} × {name} with {status} ({why})" for (name, status, why), count in sorted(self.ends.items())
        )
        return (
            f"{self.kills} kills ({faults}); ended by themselves and started again: {ends or 'none'}; "
            f"{self.payloads} spans acknowledged, {self.recorded} recorded, {self.lost_answers} acknowledgements lost, "
            f"{self.suppressed} duplicates suppressed, {self.left_behind} records of killed recorders shipped last, "
            f"{self.checkpoints} checkpoints seen, {self.leaves} leaves"
        )


More = Callable[[Topology, Load, Supervisor, Witness], Counter[str]]
"""Further kills under the same load; how many there were of each kind."""


def _no_more(_topology: Topology, _load: Load, _supervisor: Supervisor, _witness: Witness) -> Counter[str]:
    return Counter()


def run_matrix(
    topology: Topology,
    folder: Path,
    seed: int,
    faults: Iterable[Fault],
    settle_seconds: float,
    more: More = _no_more,
) -> Totals:
    """Start everything, do all of it, wait until all is sealed and signed, and check the whole."""
    with ExitStack() as stack:
        for member in topology.members.values():
            if member.process is None:
                member.start()
        supervisor = stack.enter_context(Supervisor(topology.members))
        supervisor.all_ready()
        load = stack.enter_context(load_on(topology, folder, seed))
        witness = Witness(topology)
        with witness:
            runner = Runner(topology, load, supervisor, witness)
            runner.run(_with_killed_loads(faults, load, seed))
            struck = more(topology, load, supervisor, witness)
            supervisor.all_ready()
            until(lambda: load.balancer.lost >= 3, "acknowledgements to be lost", 120)
            # Nobody goes on with the spool of this one.
            load.kill("recorder-0")
            load.finish()
            left_behind = load.ship_what_the_dead_left()
            catch_up(topology, settle_seconds)
        unexpected = {end for end in supervisor.ends if end[1] not in topology.fences}
        assert not unexpected, f"ended by themselves: {unexpected}"
        logs = prove(topology, witness)
        delivered = load.delivered()
        check_delivery(logs, delivered, load.killed)
        said = [header for sealed in logs.values() for header in sealed.headers]
        suppressed = sum(header["body"]["duplicates"] for header in said if header["class"] == "audit.batch")
        assert load.balancer.lost > 0
        assert suppressed > 0, "acknowledgements were lost, and nothing came twice"
        status, text = topology.run("replay", "--verify", "--data", topology.data)
        assert status == 0, text
        return Totals(
            kills=runner.kills + struck.total(),
            faults=runner.done + struck,
            ends=supervisor.ends,
            payloads=sum(map(len, delivered.acknowledged.values())),
            recorded=sum(map(len, delivered.recorded.values())),
            lost_answers=load.balancer.lost,
            suppressed=suppressed,
            left_behind=left_behind,
            checkpoints=len(witness.notes),
            leaves=len(said),
        )


def _with_killed_loads(faults: Iterable[Fault], load: Load, seed: int) -> Iterator[Fault]:
    """The same faults; now and then a recorder dies beside them, and another process goes on with its spool."""
    dice = random.Random(seed ^ 0x5EED)
    for fault in faults:
        if dice.random() < 0.2:
            name = dice.choice([name for name in load.processes if name.startswith("recorder")])
            load.kill(name)
            threading.Timer(dice.uniform(0, 0.5), load.start, (name,)).start()
            until(lambda name=name: name in load.processes, f"{name} to be started again", 30)
        yield fault


def check_delivery(logs: dict[str, SealedLog], delivered: Delivered, killed: Counter[str]) -> None:
    """Everything acknowledged is stored once, byte for byte, and nothing is stored that was not sent."""
    stored: dict[str, Counter[bytes]] = {}
    records: dict[str, Counter[str]] = {}
    missing: set[tuple[str, str, int]] = set()
    for sealed in logs.values():
        for row, header in zip(sealed.rows, sealed.headers, strict=True):
            if "emitter" in header:
                stored.setdefault(header["emitter"], Counter())[row["payload"]] += 1
                if header["class"] == "model.access":
                    records.setdefault(header["emitter"], Counter())[header["record_id"]] += 1
            elif header["class"] in ("audit.gap", "audit.gap.closed"):
                gap = header["body"]
                run = {(gap["emitter"], gap["stream"], number) for number in range(gap["from"], gap["to"])}
                missing = missing | run if header["class"] == "audit.gap" else missing - run
            assert header["class"] not in ("audit.conflict", "audit.quarantined"), header
    assert not missing, f"sequences declared missing that never came: {sorted(missing)[:5]}"
    for emitter, payloads in stored.items():
        twice = [payload for payload, count in payloads.items() if count > 1]
        assert not twice, f"{len(twice)} payloads of {emitter} are stored more than once"
        assert payloads.keys() <= delivered.sent[emitter], f"{emitter}: something is stored that was never sent"
    for emitter, payloads_ in delivered.acknowledged.items():
        lost = payloads_ - stored.get(emitter, Counter()).keys()
        assert not lost, f"{len(lost)} of {len(payloads_)} acknowledged spans of {emitter} are lost"
    for name, ids in delivered.recorded.items():
        found = records[name]
        assert set(found.values()) == {1}
        assert ids <= found.keys(), f"{len(ids - found.keys())} of {len(ids)} records of {name} are lost"
        # A call that a kill cut off may have recorded.
        assert len(found) <= min(delivered.begun[name], len(ids) + killed[name])
