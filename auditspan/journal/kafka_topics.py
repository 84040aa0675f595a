"""Topics that keep what they are given: made by ``auditspan kafka init``, verified before anything is written or read.

Kafka takes a topic that loses acknowledged records as readily as one that does not: the difference is in settings whose
defaults suit other uses. `findings` says which, and what to set.

Source: https://kafka.apache.org/documentation/#topicconfigs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import MOST_PARTITIONS
from auditspan.journal.kafka_connection import client_options, explained, unreachable

__all__ = [
    "Finding",
    "TopicFacts",
    "TopicPlan",
    "TopicsUnfit",
    "check_topics",
    "findings",
    "generations",
    "make_next_generation",
    "make_topics",
    "plans",
]

_DAY_MS: Final = 86_400_000
_SMALLEST_MESSAGE: Final = 128 << 10
"""A control entry and its headers must fit, and a request's parts must not become one span each."""
_LATEST_TIMESTAMP_MS: Final = _DAY_MS
_READY_SECONDS: Final = 10.0
_AHEAD: Final = 32
"""Generations that may be gone before those that are there: more than any deployment deletes in a row."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What a topic should be. ``partitions`` None: as many as it has; ``ours``: `make_topics` makes it."""

    name: str
    partitions: int | None
    retention_days: float
    ours: bool


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a topic is: the fewest replicas that a partition of it has, and its effective settings."""

    partitions: int
    replicas: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def largest_message(self) -> int:
        """``max.message.bytes``."""
        return int(self.settings["max.message.bytes"])


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a topic that would lose events."""

    topic: str
    setting: str
    found: str
    remedy: str


class TopicsUnfit(AuditSpanError):
    """Topics that would lose events; ``findings`` are all that was found."""

    def __init__(self, found: Sequence[Finding]) -> None:
        said = "; ".join(f"{one.topic}: {one.setting} is {one.found}" for one in found)
        super().__init__(
            f"The Kafka topics do not keep what they are given: {said}.",
            remedy=" ".join(dict.fromkeys(one.remedy for one in found)),
        )
        self.findings = tuple(found)


def plans(settings: KafkaSettings, partitions: int, generations: Sequence[int] = (1,)) -> list[TopicPlan]:
    """The topics that a journal needs: the last of ``generations`` has ``partitions`` data partitions."""
    *earlier, last = generations
    return [
        *(TopicPlan(settings.topic_of(one), None, settings.retention_days, ours=True) for one in earlier),
        TopicPlan(settings.topic_of(last), partitions, settings.retention_days, ours=True),
        # Small, and what opens every log stands in it: kept for ever.
        TopicPlan(settings.control_topic, 1, 0.0, ours=True),
        *(TopicPlan(topic, None, settings.retention_days, ours=False) for topic in settings.foreign_topics),
    ]


def findings(plan: TopicPlan, facts: TopicFacts | None, settings: KafkaSettings) -> list[Finding]:
    """What is wrong with a topic; None: it is not there."""
    if facts is None:
        remedy = "Make it with: auditspan kafka init." if plan.ours else "Correct kafka.foreign_topics."
        return [Finding(plan.name, "the topic", "missing", remedy)]
    if not facts.settings:
        return [
            Finding(
                plan.name, "its configuration", "unreadable", "Grant DescribeConfigs on the topic to this principal."
            )
        ]
    return list(_faults(plan, facts, settings))


def check_topics(url: str, settings: KafkaSettings, partitions: int) -> dict[str, TopicFacts]:
    """The facts of all topics of the journal, verified.

    Raises:
        TopicsUnfit: a topic is missing or would lose events.
        JournalUnavailable: the cluster cannot be reached.
        KafkaRefused: it does not let us look.
    """
    with _administrator(url, settings) as administrator:
        wanted = plans(settings, partitions, _generations(administrator, settings) or (1,))
        facts = _facts(administrator, [plan.name for plan in wanted])
    found = [finding for plan in wanted for finding in findings(plan, facts.get(plan.name), settings)]
    if found:
        raise TopicsUnfit(found)
    return facts


def make_topics(url: str, settings: KafkaSettings, partitions: int) -> tuple[list[str], dict[str, TopicFacts]]:
    """Make those of our topics that are missing, then verify all; the names of those made, and the facts.

    A topic that is there is not changed. Raises what `check_topics` raises.
    """
    with _administrator(url, settings) as administrator:
        wanted = plans(settings, partitions, _generations(administrator, settings) or (1,))
        there = _facts(administrator, [plan.name for plan in wanted])
        missing = [plan for plan in wanted if plan.ours and plan.name not in there]
        _make(administrator, missing, settings)
    return [plan.name for plan in missing], check_topics(url, settings, partitions)


def make_next_generation(
    url: str, settings: KafkaSettings, partitions: int
) -> tuple[int, list[str], dict[str, TopicFacts]]:
    """Make the topic of the next generation with ``partitions`` partitions: that ends the generation before it.

    The generation, the names of the topics made, and the facts of all. Nothing is made when the last generation has
    that many partitions already: then it is the one.

    Raises:
        TopicsUnfit: a topic is missing or would lose events.
        AuditSpanError: the logs of all generations would be too many.
        JournalUnavailable: the cluster cannot be reached.
        KafkaRefused: it does not let us.
    """
    with _administrator(url, settings) as administrator:
        there = _generations(administrator, settings)
        names = [settings.topic_of(one) for one in there]
        last = _facts(administrator, names[-1:]).get(names[-1]) if names else None
    if last is None:
        raise TopicsUnfit(findings(plans(settings, partitions)[0], None, settings))
    # Nothing ends before what is there is known to be sound.
    facts = check_topics(url, settings, last.partitions)
    if last.partitions == partitions:
        return there[-1], [], facts
    _refuse_too_many(settings, facts, there, partitions)
    generation = there[-1] + 1
    plan = TopicPlan(settings.topic_of(generation), partitions, settings.retention_days, ours=True)
    with _administrator(url, settings) as administrator:
        _make(administrator, [plan], settings)
    return generation, [plan.name], check_topics(url, settings, partitions)


def _refuse_too_many(
    settings: KafkaSettings, facts: Mapping[str, TopicFacts], there: Sequence[int], partitions: int
) -> None:
    counts = generations(settings, facts)
    # How many logs a generation had whose topic is gone is not asked: as many as the largest that is there, say.
    gone = (there[-1] - len(there)) * max(counts.values())
    others = sum(facts[topic].partitions for topic in settings.foreign_topics)
    before = sum(counts.values()) + gone + others
    if before + partitions > MOST_PARTITIONS:
        raise AuditSpanError(
            f"With {partitions} partitions more, this deployment would have {before + partitions} logs; it may have "
            f"{MOST_PARTITIONS}, closed ones included.",
            remedy=f"Begin the next generation with at most {max(MOST_PARTITIONS - before, 0)}, or a new deployment.",
        )


def generations(settings: KafkaSettings, facts: Mapping[str, TopicFacts]) -> dict[int, int]:
    """How many partitions each generation of our own has, in order."""
    found = {number: one.partitions for name, one in facts.items() if (number := settings.generation_of(name))}
    return dict(sorted(found.items()))


def _make(administrator: KafkaAdminClient, missing: Sequence[TopicPlan], settings: KafkaSettings) -> None:
    if not missing:
        return
    administrator.create_topics(
        {
            plan.name: {
                "num_partitions": plan.partitions,
                "replication_factor": settings.replication_factor,
                "configs": _configuration(plan, settings),
            }
            for plan in missing
        }
    )
    administrator.wait_for_topics([plan.name for plan in missing], timeout_ms=int(_READY_SECONDS * 1000))


def _generations(administrator: KafkaAdminClient, settings: KafkaSettings) -> list[int]:
    """The generations whose topics are there; early ones may be gone."""
    found: list[int] = []
    begin = 1
    while True:
        names = {settings.topic_of(one): one for one in range(begin, begin + _AHEAD)}
        there = [names[topic["name"]] for topic in administrator.describe_topics(list(names)) if _there(topic)]
        found += sorted(there)
        if not there:
            return found
        begin += _AHEAD


def _configuration(plan: TopicPlan, settings: KafkaSettings) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(int(plan.retention_days * _DAY_MS)) if plan.retention_days else "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(settings.max_message_bytes),
        "unclean.leader.election.enable": "false",
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "producer",
    }


def _faults(plan: TopicPlan, facts: TopicFacts, settings: KafkaSettings) -> Iterator[Finding]:
    def fault(setting: str, found: object, remedy: str) -> Finding:
        return Finding(plan.name, setting, str(found), remedy)

    has = facts.settings
    if plan.partitions is not None and facts.partitions != plan.partitions:
        count = f"the number of partitions (journal.partitions {plan.partitions})"
        yield fault(
            "the number of partitions (of which a control topic has 1)"
            if plan.name == settings.control_topic
            else count,
            facts.partitions,
            f"Set journal.partitions to {facts.partitions} if `auditspan kafka init` or `reshard` made the topic so: "
            "the number is fixed for the life of a log generation.",
        )
    if facts.replicas < settings.replication_factor:
        yield fault(
            "the replication factor",
            f"{facts.replicas}, less than kafka.replication_factor {settings.replication_factor}",
            "Give every partition more replicas, or set kafka.replication_factor to accept that fewer lost disks lose "
            "acknowledged events.",
        )
    # A broker accepts a min.insync.replicas above the number of replicas, and then asks for no more than there are.
    insync = min(facts.replicas, int(has.get("min.insync.replicas", "1")))
    if insync < settings.min_insync_replicas:
        yield fault(
            "min.insync.replicas",
            f"{insync} in effect, less than kafka.min_insync_replicas {settings.min_insync_replicas}",
            "Raise min.insync.replicas of the topic, or set kafka.min_insync_replicas to accept it.",
        )
    if has.get("cleanup.policy") != "delete":
        yield fault(
            "cleanup.policy", has.get("cleanup.policy"), "Set cleanup.policy=delete: compaction removes events."
        )
    retention = int(has.get("retention.ms", "0"))
    if 0 <= retention < settings.min_retention_days * _DAY_MS:
        yield fault(
            "retention.ms",
            f"{retention} ({retention / _DAY_MS:.3g} days, less than kafka.min_retention_days "
            f"{settings.min_retention_days:g})",
            "Set retention.ms beyond the longest time that the processors or the store may be down.",
        )
    if int(has.get("retention.bytes", "-1")) >= 0:
        yield fault(
            "retention.bytes", has["retention.bytes"], "Set retention.bytes=-1: it forgets events however young."
        )
    if facts.largest_message < _SMALLEST_MESSAGE:
        yield fault(
            "max.message.bytes", facts.largest_message, f"Set max.message.bytes to {_SMALLEST_MESSAGE} or more."
        )
    if has.get("unclean.leader.election.enable") != "false":
        yield fault(
            "unclean.leader.election.enable",
            has.get("unclean.leader.election.enable"),
            "Set unclean.leader.election.enable=false: such an election drops acknowledged events.",
        )
    if has.get("message.timestamp.type") != "LogAppendTime":
        future = int(has.get("message.timestamp.after.max.ms", str(2**63 - 1)))
        if future > _LATEST_TIMESTAMP_MS:
            yield fault(
                "message.timestamp.after.max.ms",
                future,
                "Set message.timestamp.type=LogAppendTime, or message.timestamp.after.max.ms to 3600000: one record "
                "dated far ahead would move the arrival watermark of its log for ever.",
            )


def _facts(administrator: KafkaAdminClient, names: Sequence[str]) -> dict[str, TopicFacts]:
    described = [topic for topic in administrator.describe_topics(list(names)) if _there(topic)]
    if not described:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic["name"]) for topic in described]
    configured = administrator.describe_configs(resources, config_filter="all").get("topic", {})
    return {
        topic["name"]: TopicFacts(
            len(topic["partitions"]),
            min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0),
            {name: str(value["value"]) for name, value in configured.get(topic["name"], {}).items()},
        )
        for topic in described
    }


def _there(topic: Mapping[str, Any]) -> bool:
    error = kafka_errors.for_code(topic["error_code"])
    if issubclass(error, kafka_errors.AuthorizationError | kafka_errors.InvalidTopicError):
        raise error(topic["name"])
    return error is kafka_errors.NoError


@contextmanager
def _administrator(url: str, settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    options = client_options(url, settings)
    try:
        opened = KafkaAdminClient(**options, bootstrap_timeout_ms=int(settings.connect_timeout_seconds * 1000))
    except (kafka_errors.KafkaError, OSError) as error:
        raise unreachable(url, settings, error) from error
    with closing(opened):
        try:
            yield opened
        except kafka_errors.KafkaError as error:
            raise explained(error, "Looking at the Kafka topics") from error
