"""``auditspan kafka``: the topics of the journal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.config import settings_of
from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.config import Settings
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import MOST_PARTITIONS
from auditspan.journal.opening import is_kafka

if TYPE_CHECKING:
    from auditspan.journal.kafka_topics import TopicFacts

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Kafka topics of the journal: made, and verified to keep every event.")

Data = Annotated[
    Path | None, typer.Option("--data", help="Data directory whose auditspan.toml is read.", file_okay=False)
]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")]
JournalOption = Annotated[
    str | None, typer.Option("--journal", help="kafka://HOST:PORT[,HOST:PORT...]; default the setting journal.url.")
]

_SHOWN = ("min.insync.replicas", "retention.ms", "cleanup.policy", "max.message.bytes")


@app.command()
@reports_errors
def init(data: Data = None, journal: JournalOption = None, config: Config = None, as_json: JsonOption = False) -> None:
    """Make the topics of the journal that are missing, as [kafka] of the settings says, and verify all of them.

    A topic that is there already is not changed. Exit status 1 when one would lose events, with what to set.

    \b
    auditspan kafka init --journal kafka://127.0.0.1:9092
    AUDITSPAN_KAFKA__REPLICATION_FACTOR=1 AUDITSPAN_KAFKA__MIN_INSYNC_REPLICAS=1 auditspan kafka init --data ./data
    """
    settings = _settings(data, config, journal)
    from auditspan.journal.kafka_topics import make_topics

    made, facts = make_topics(settings.journal.url, settings.kafka, settings.journal.partitions)
    _report(facts, made, as_json)


@app.command()
@reports_errors
def check(data: Data = None, journal: JournalOption = None, config: Config = None, as_json: JsonOption = False) -> None:
    """Verify that the topics keep what they are given: partitions, replicas, retention, no compaction, message size.

    Collectors and processors do the same when they start. Exit status 1 when a topic would lose events.

    \b
    auditspan kafka check --journal kafka://127.0.0.1:9092
    auditspan kafka check --data ./data --json
    """
    settings = _settings(data, config, journal)
    from auditspan.journal.kafka_topics import check_topics

    _report(check_topics(settings.journal.url, settings.kafka, settings.journal.partitions), [], as_json)


@app.command()
@reports_errors
def reshard(
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions", min=1, max=MOST_PARTITIONS, help="Data partitions, and so logs, of the next generation."
        ),
    ],
    data: Data = None,
    journal: JournalOption = None,
    config: Config = None,
    as_json: JsonOption = False,
) -> None:
    """Begin the next generation of logs, with another number of partitions. No event is lost, none is sealed twice.

    Makes its topic. From then on collectors of the generation before answer 503: set journal.partitions and restart
    every process. Processors seal what was acknowledged before, close those logs, and go on in the new ones; what is
    accepted meanwhile waits for about a minute. `auditspan status` shows how far it is.

    \b
    auditspan kafka reshard --partitions 8 --data ./data
    auditspan kafka reshard --partitions 8 --journal kafka://127.0.0.1:9092 --json
    """
    settings = _settings(data, config, journal)
    from auditspan.journal.kafka_topics import generations, make_next_generation

    generation, made, facts = make_next_generation(settings.journal.url, settings.kafka, partitions)
    _report(facts, made, as_json, generation=generation, partitions=partitions)
    if not as_json:
        earlier = [number for number in generations(settings.kafka, facts) if number < generation]
        console.print(
            f"Generation {generation} is the one that is written to"
            + (f"; {', '.join(map(str, earlier))} will be closed." if earlier else "."),
            soft_wrap=True,
        )
        console.print(
            f"Set journal.partitions = {partitions} and restart every collector and processor.", soft_wrap=True
        )


def _settings(data: Path | None, config: Path | None, journal: str | None) -> Settings:
    overrides: dict[str, Any] = {} if journal is None else {"journal": {"url": journal}}
    settings = settings_of(data, config, overrides)
    if not is_kafka(settings):
        raise AuditSpanError(
            "The journal is SQLite: it has no topics.", remedy="Set journal.url, or give --journal kafka://HOST:PORT."
        )
    # The client library says on its way what the error at the end says once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return settings


def _report(facts: Mapping[str, TopicFacts], made: list[str], as_json: bool, **more: int) -> None:
    rows = [
        {
            "topic": name,
            "partitions": one.partitions,
            "replicas": one.replicas,
            **{setting: one.settings.get(setting) for setting in _SHOWN},
        }
        for name, one in facts.items()
    ]
    if as_json:
        print_json({**more, "made": made, "topics": rows})
        return
    print_table("Topics that keep every event", ["topic", "partitions", "replicas", *_SHOWN], rows)
    if made:
        console.print(f"Made: {', '.join(made)}", soft_wrap=True)
