"""A topic that would lose events is refused, by the name of the setting."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal import JournalUnavailable
from auditspan.journal.kafka_topics import (
    TopicFacts,
    TopicPlan,
    TopicsUnfit,
    check_topics,
    findings,
    generations,
    make_next_generation,
    make_topics,
)

GOOD = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "min.insync.replicas": "2",
    "max.message.bytes": "1048588",
    "unclean.leader.election.enable": "false",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
}
PLAN = TopicPlan("auditspan.events", 4, 30.0, ours=True)


def found(facts: TopicFacts | None, **settings) -> dict[str, str]:
    return {one.setting: one.found for one in findings(PLAN, facts, KafkaSettings(**settings))}


def test_a_topic_that_keeps_everything_is_fit():
    assert found(TopicFacts(4, 3, GOOD)) == {}
    assert found(TopicFacts(4, 3, {**GOOD, "retention.ms": "-1"})) == {}
    stamped = {**GOOD, "message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    assert found(TopicFacts(4, 3, stamped)) == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604799999"),
        ("retention.bytes", "1000000000000"),
        ("min.insync.replicas", "1"),
        ("max.message.bytes", "100000"),
        ("unclean.leader.election.enable", "true"),
        ("message.timestamp.after.max.ms", str(2**63 - 1)),
    ],
)
def test_each_setting_that_loses_events_is_found(setting, value):
    assert list(found(TopicFacts(4, 3, {**GOOD, setting: value}))) == [setting]
    (finding,) = findings(PLAN, TopicFacts(4, 3, {**GOOD, setting: value}), KafkaSettings())
    assert finding.remedy


def test_replicas_that_do_not_exist_do_not_count_as_in_sync():
    assert found(TopicFacts(4, 1, GOOD)) == {
        "the replication factor": "1, less than kafka.replication_factor 3",
        "min.insync.replicas": "1 in effect, less than kafka.min_insync_replicas 2",
    }
    assert found(TopicFacts(4, 1, GOOD), replication_factor=1, min_insync_replicas=1) == {}


def test_another_number_of_partitions_is_found():
    assert list(found(TopicFacts(5, 3, GOOD)).values()) == ["5"]
    assert "journal.partitions 4" in next(iter(found(TopicFacts(5, 3, GOOD))))


def test_what_is_missing_or_hidden_is_found():
    assert found(None) == {"the topic": "missing"}
    assert found(TopicFacts(4, 3, {})) == {"its configuration": "unreadable"}


def test_init_makes_what_check_accepts_and_changes_nothing_afterwards(kafka, kafka_settings):
    settings = kafka_settings(make=False)
    with pytest.raises(TopicsUnfit, match=r"the topic is missing.*kafka init"):
        check_topics(kafka.url, settings, 3)
    made, facts = make_topics(kafka.url, settings, 3)
    assert made == [settings.topic, settings.control_topic]
    assert (facts[settings.topic].partitions, facts[settings.control_topic].partitions) == (3, 1)
    assert facts[settings.control_topic].settings["retention.ms"] == "-1"
    assert facts[settings.topic].largest_message == settings.max_message_bytes
    assert make_topics(kafka.url, settings, 3)[0] == []
    assert check_topics(kafka.url, settings, 3) == facts
    with pytest.raises(TopicsUnfit, match="number of partitions") as unfit:
        make_topics(kafka.url, settings, 4)
    assert "Set journal.partitions" in unfit.value.remedy


def test_the_next_generation_has_a_topic_and_a_number_of_its_own(kafka, kafka_settings):
    settings = kafka_settings(partitions=2)
    assert make_next_generation(kafka.url, settings, 2)[:2] == (1, []), "it has that many"
    generation, made, facts = make_next_generation(kafka.url, settings, 3)
    assert (generation, made) == (2, [f"{settings.topic}.2"])
    assert generations(settings, facts) == {1: 2, 2: 3}
    assert check_topics(kafka.url, settings, 3) == facts
    with pytest.raises(TopicsUnfit, match=rf"{settings.topic}.2: the number of partitions .journal.partitions 2. is 3"):
        check_topics(kafka.url, settings, 2)
    assert make_topics(kafka.url, settings, 3)[0] == [], "init makes nothing anew"
    assert make_next_generation(kafka.url, settings, 1)[:2] == (3, [f"{settings.topic}.3"])
    administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    administrator.delete_topics([settings.topic, f"{settings.topic}.2"])
    administrator.close()
    assert generations(settings, check_topics(kafka.url, settings, 1)) == {3: 1}, "early ones may be deleted"


def test_nothing_ends_before_all_topics_are_sound(kafka, kafka_settings):
    settings = kafka_settings(partitions=2)
    administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    administrator.alter_configs([ConfigResource("TOPIC", settings.control_topic, {"cleanup.policy": "compact"})])
    with pytest.raises(TopicsUnfit, match="cleanup"):
        make_next_generation(kafka.url, settings, 3)
    assert f"{settings.topic}.2" not in administrator.list_topics()
    administrator.close()
    with pytest.raises(TopicsUnfit, match="missing"):
        make_next_generation(kafka.url, kafka_settings(make=False), 3)


@pytest.mark.parametrize(
    ("setting", "value"), [("cleanup.policy", "compact"), ("retention.ms", "3600000"), ("retention.bytes", "1000000")]
)
def test_a_topic_that_was_spoiled_afterwards_is_refused(kafka, kafka_settings, kafka_journal, setting, value):
    settings = kafka_settings()
    administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    administrator.alter_configs([ConfigResource("TOPIC", settings.topic, {setting: value})])
    administrator.close()
    with pytest.raises(TopicsUnfit, match=setting) as unfit:
        kafka_journal(settings=settings)
    assert [one.topic for one in unfit.value.findings] == [settings.topic]


def test_asking_for_a_topic_does_not_make_it(kafka, kafka_settings):
    settings = kafka_settings(make=False)
    for _ in range(2):
        with pytest.raises(TopicsUnfit, match="missing"):
            check_topics(kafka.url, settings, 1)


@pytest.mark.parametrize("url", ["kafka://127.0.0.1:1", "kafka://nowhere.invalid:9092"])
def test_a_cluster_that_is_not_there_is_named_with_its_setting(url):
    with pytest.raises(JournalUnavailable, match=r"No Kafka broker of journal.url kafka://") as missing:
        check_topics(url, KafkaSettings(connect_timeout_seconds=1.0), 1)
    assert "journal.url" in missing.value.remedy


def test_more_logs_than_one_round_of_checkpoints_names_are_refused(kafka, kafka_settings):
    settings = kafka_settings(partitions=80)
    with pytest.raises(AuditSpanError, match="would have 97 logs; it may have 96"):
        make_next_generation(kafka.url, settings, 17)
    assert make_next_generation(kafka.url, settings, 16)[0] == 2
