"""Who owns which partition now, as the consumer group says: for people who look, never for those who process."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors

from auditspan.config import KafkaSettings
from auditspan.journal.kafka_connection import client_options, unreachable

__all__ = ["member_name", "partition_owners"]

_PREFIX: Final = "auditspan-"


def member_name() -> str:
    """The client id of this process in the group: host and process."""
    return f"{_PREFIX}{socket.gethostname()}-{os.getpid()}"


def partition_owners(url: str, settings: KafkaSettings, places: Mapping[str, TopicPartition]) -> dict[str, str]:
    """``HOST-PROCESS`` of the owner of each partition that has one.

    Raises:
        JournalUnavailable: the cluster cannot be reached.
        KafkaRefused: it does not let us look.
    """
    names = {(place.topic, place.partition): name for name, place in places.items()}
    try:
        with closing(
            KafkaAdminClient(
                **client_options(url, settings), bootstrap_timeout_ms=int(settings.connect_timeout_seconds * 1000)
            )
        ) as administrator:
            group: Mapping[str, Any] = administrator.describe_groups([settings.group])[settings.group]
    except (kafka_errors.KafkaError, OSError) as error:
        raise unreachable(url, settings, error) from error
    owners: dict[str, str] = {}
    for member in group["members"]:
        assignment = member["member_assignment"] or {}
        for topic in assignment.get("assigned_partitions", ()):
            for partition in topic["partitions"]:
                name = names.get((topic["topic"], partition))
                if name is not None:
                    owners[name] = str(member["client_id"]).removeprefix(_PREFIX)
    return owners
