"""What the collectors count, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["CollectorMetrics"]


class CollectorMetrics:
    """Counters of the way in, registered in ``registry``.

    A span is *received* when its request was read and framed, *journaled* when it is durable, *acknowledged* when the
    sender was told so. *Quarantined* are requests, or oversized spans, that were kept as undecodable bytes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.received_requests = Counter(
            "auditspan_received_requests", "Requests that came in.", ["transport"], registry=registry
        )
        self.received_bytes = Counter("auditspan_received_bytes", "Bytes of requests, as sent.", registry=registry)
        self.received_spans = Counter("auditspan_received_spans", "Spans in valid requests.", registry=registry)
        self.journaled_spans = Counter("auditspan_journaled_spans", "Spans made durable.", registry=registry)
        self.journaled_entries = Counter("auditspan_journaled_entries", "Journal entries written.", registry=registry)
        self.acknowledged_spans = Counter("auditspan_acknowledged_spans", "Spans acknowledged.", registry=registry)
        self.refused_requests = Counter(
            "auditspan_refused_requests", "Requests that were refused, by reason.", ["reason"], registry=registry
        )
        self.rejected_spans = Counter(
            "auditspan_rejected_spans", "Spans rejected by partial success.", registry=registry
        )
        self.quarantined = Counter(
            "auditspan_collector_quarantined", "Undecodable bytes kept in the journal.", registry=registry
        )
        self.requests_in_progress = Gauge(
            "auditspan_requests_in_progress", "Requests between their first byte and their answer.", registry=registry
        )
