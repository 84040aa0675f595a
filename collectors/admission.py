"""The way in, the same for every transport: who sends, is it sound, is it durable; only then an acknowledgement.

1. The credential says who sends. Nothing in the payload can.
2. Places, bytes and disk are bounded; what does not fit now is 503/UNAVAILABLE and comes again.
3. The content encoding is undone, JSON transcoded, the framing walked once down to span boundaries. What is not an OTLP
   request is refused, and its bytes kept when the sender is known.
4. The request is split by stream and size and appended to the journal. The acknowledgement follows the commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from auditspan.errors import AuditSpanError
from auditspan.journal import EntryKind, Journal, JournalFull, JournalUnavailable, NewEntry, SupportsProbe
from auditspan.otlp.json import OtlpJsonError, protobuf_from_json
from auditspan.otlp.split import Split, SplitLimits, partition_of, split
from auditspan.otlp.wire import TooManyParts, WireError, check_request
from auditspan.tokens import ANONYMOUS, TokenRegistry, TokensUnavailable

from .capacity import Capacity, Slot
from .disk import DiskWatermark
from .encoding import CONTENT_ENCODINGS, CorruptEncoding, DecompressedTooLarge, decompress
from .metrics import CollectorMetrics
from .outcome import Outcome, Refusal, Refused

__all__ = ["Admission", "AdmissionLimits", "Media", "Received", "Sender", "build_admission"]

_log = logging.getLogger(__name__)

# Work that takes longer than handing it to a thread does (about 0.1 ms) leaves the event loop free.
_INLINE_BYTES: Final = 1024 * 1024
_INLINE_COMPRESSED_BYTES: Final = 32 * 1024
# Parsed JSON takes this many times its text, measured on spans of 1 kB, and the transcoding once more.
_JSON_EXPANSION: Final = 8
_PROBE_SECONDS: Final = 2.0
_PROBE_KEPT_SECONDS: Final = 1.0


class Media(Enum):
    """Media types of OTLP."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it was read."""

    body: bytes
    media: Media = Media.PROTOBUF
    content_encoding: str = "identity"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: fields ``emitter`` and ``authentication`` of journal entries."""

    emitter: str
    authentication: str


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds of what is accepted.

    Args:
        max_request_bytes: bytes of a request as sent.
        max_decompressed_bytes: bytes of it after decompression.
        max_concurrent_requests: more are refused and come again.
        max_held_bytes: bytes of all requests in progress together.
        max_parts: spans and fields around them in one request.
        allow_anonymous_loopback: accept requests from this machine without a token, as emitter ``anonymous``.
        body_seconds: time for a sender to deliver a request.
        journal_seconds: time for the journal; then the sender is asked to send again, which duplicates nothing.
        split: bounds of one journal entry.
    """

    max_request_bytes: int = 16 * 1024 * 1024
    max_decompressed_bytes: int = 64 * 1024 * 1024
    max_concurrent_requests: int = 64
    max_held_bytes: int = 256 * 1024 * 1024
    max_parts: int = 200_000
    allow_anonymous_loopback: bool = False
    body_seconds: float = 20.0
    journal_seconds: float = 8.0
    split: SplitLimits = field(default_factory=SplitLimits)


@dataclass(frozen=True, slots=True)
class _Decoded:
    spans: int
    split: Split
    encoding: str


class _Malformed(Exception):
    """Never acceptable; ``body`` is what to keep of it."""

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


class Admission:
    """Decides about requests; see the module. One for all transports of a process, on one event loop."""

    def __init__(
        self,
        journal: Journal,
        tokens: TokenRegistry,
        limits: AdmissionLimits,
        metrics: CollectorMetrics,
        disk: DiskWatermark,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self._journal = journal
        self._partitions = list(journal.own_partitions)
        self._split = limits.split.within(journal.largest_body)
        self._tokens = tokens
        self._disk = disk
        self._capacity = Capacity(limits.max_concurrent_requests, limits.max_held_bytes)
        self._transcoding = asyncio.Semaphore(2)
        self._probed = float("-inf")
        self._probe_result: str | None = None

    async def answer(
        self,
        transport: str,
        authorization: str | None,
        peer: str | None,
        receive: Callable[[Slot], Awaitable[Received]],
    ) -> Outcome:
        """What to answer to one request.

        Args:
            transport: name for the metrics.
            authorization: value of the ``authorization`` header or metadata.
            peer: address that the request came from, without the port.
            receive: reads the request, counting its bytes in the slot; not called when the answer is known before.
        """
        self.metrics.received_requests.labels(transport).inc()
        self.metrics.requests_in_progress.inc()
        try:
            sender = self.authenticate(authorization, peer)
            with self._capacity.slot() as slot:
                full = self._disk.refusal()
                if full is not None:
                    raise Refused(Refusal.DISK, f"Nothing can be made durable: {full}.")
                return await self._admit(sender, slot, await receive(slot))
        except Refused as refused:
            outcome = refused.outcome
        except Exception:  # a fault of ours must not become a 500, after which the official exporter drops its spans
            _log.exception("a request met an unexpected fault; its sender was asked to send it again")
            outcome = Outcome(Refusal.INTERNAL, "The collector met a fault; send again.")
        finally:
            self.metrics.requests_in_progress.dec()
        if outcome.refusal is not None:
            self.metrics.refused_requests.labels(outcome.refusal.value.reason).inc()
        return outcome

    async def unready(self) -> list[str]:
        """Why nothing can be made durable now; empty when it can. Asks the journal at most once a second."""
        reasons = [reason for reason in (self._disk.refusal(), await self._probe()) if reason is not None]
        return reasons

    def authenticate(self, authorization: str | None, peer: str | None) -> Sender:
        """Who the credential is of, whatever is asked.

        Raises:
            Refused: nobody's, or the tokens cannot be checked.
        """
        if authorization is None and self.limits.allow_anonymous_loopback and _is_loopback(peer):
            return Sender(ANONYMOUS, "none")
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(
                Refusal.UNAUTHENTICATED,
                "Send the header 'authorization: Bearer TOKEN'; `auditspan token create EMITTER` makes one.",
            )
        try:
            emitter = self._tokens.check(token.strip())
        except TokensUnavailable as error:
            _log.error("tokens cannot be checked: %s", error)
            raise Refused(Refusal.TOKENS_UNAVAILABLE, "Tokens cannot be checked now; send again.") from error
        if emitter is None:
            raise Refused(Refusal.UNAUTHENTICATED, "The token is not known, or was revoked.")
        return Sender(emitter, "bearer")

    async def _admit(self, sender: Sender, slot: Slot, received: Received) -> Outcome:
        arrival_time = time.time_ns()
        self.metrics.received_bytes.inc(len(received.body))
        try:
            decoded = await self._decode(sender, slot, received)
        except _Malformed as malformed:
            await self._keep_malformed(sender, arrival_time, malformed.body)
            raise Refused(Refusal.MALFORMED, f"The request cannot be accepted: {malformed}.") from malformed
        self.metrics.received_spans.inc(decoded.spans)
        entries = [
            (
                self._partitions[partition],
                NewEntry(EntryKind.OTLP, sender.emitter, sender.authentication, arrival_time, decoded.encoding, body),
            )
            for partition, body in decoded.split.entries
        ]
        rejected = decoded.split.rejected
        kept = [
            (self._partitions[one.partition], part)
            for one in rejected
            if self._may_keep(sender, one.body)
            for part in self._undecodable(sender, arrival_time, one.body)
        ]
        if entries or kept:
            await self._append(entries + kept)
        refused_spans = sum(one.spans for one in rejected)
        accepted = decoded.spans - refused_spans
        self.metrics.quarantined.inc(sum(self._may_keep(sender, one.body) for one in rejected))
        self.metrics.rejected_spans.inc(refused_spans)
        self.metrics.journaled_spans.inc(accepted)
        self.metrics.acknowledged_spans.inc(accepted)
        return Outcome(None, "; ".join(dict.fromkeys(one.reason for one in rejected)), refused_spans)

    async def _decode(self, sender: Sender, slot: Slot, received: Received) -> _Decoded:
        size = len(received.body)
        if received.media is Media.JSON:
            async with self._transcoding:
                return await asyncio.to_thread(self._decode_now, sender, slot, received)
        if size > (_INLINE_BYTES if received.content_encoding == "identity" else _INLINE_COMPRESSED_BYTES):
            return await asyncio.to_thread(self._decode_now, sender, slot, received)
        return self._decode_now(sender, slot, received)

    def _decode_now(self, sender: Sender, slot: Slot, received: Received) -> _Decoded:
        if received.content_encoding not in CONTENT_ENCODINGS:
            raise Refused(Refusal.UNSUPPORTED, f"Send one of these content encodings: {', '.join(CONTENT_ENCODINGS)}.")
        try:
            body = decompress(
                received.body, received.content_encoding, self.limits.max_decompressed_bytes, slot.reserve
            )
        except CorruptEncoding as error:
            raise _Malformed(str(error), received.body) from error
        except DecompressedTooLarge as error:
            raise Refused(Refusal.TOO_LARGE, f"Send smaller requests: {error}.") from error
        encoding = "otlp_proto"
        message = body
        try:
            if received.media is Media.JSON:
                slot.reserve(_JSON_EXPANSION * len(body))
                encoding = f"otlp_json sha256:{hashlib.sha256(body).hexdigest()}"
                message = protobuf_from_json(body)
            framing = check_request(message, max_parts=self.limits.max_parts)
        except TooManyParts as error:
            raise Refused(Refusal.TOO_LARGE, f"Send smaller requests: {error}.") from error
        except (OtlpJsonError, WireError) as error:
            raise _Malformed(str(error), body) from error
        parts = split(framing, sender.emitter, len(self._partitions), self._split)
        return _Decoded(framing.spans, parts, encoding)

    async def _keep_malformed(self, sender: Sender, arrival_time: int, body: bytes) -> None:
        if body and self._may_keep(sender, body):
            index = partition_of(sender.emitter.encode(), b"", len(self._partitions))
            await self._append(
                [(self._partitions[index], part) for part in self._undecodable(sender, arrival_time, body)]
            )
            self.metrics.quarantined.inc()

    def _may_keep(self, sender: Sender, body: bytes) -> bool:
        """What nobody vouches for, or what no request may be as large as, is refused without being kept."""
        return sender.authentication != "none" and len(body) <= self.limits.max_request_bytes

    def _undecodable(self, sender: Sender, arrival_time: int, body: bytes) -> list[NewEntry]:
        """Entries that keep ``body``: one, or several parts of it where the journal takes no entry as large."""
        size = self._journal.largest_body or len(body)
        parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
        encodings = ["raw"]
        if len(parts) > 1:
            digest = hashlib.sha256(body).hexdigest()
            encodings = [f"raw {part}/{len(parts)} sha256:{digest}" for part in range(1, len(parts) + 1)]
        return [
            NewEntry(EntryKind.UNDECODABLE, sender.emitter, sender.authentication, arrival_time, encoding, part)
            for encoding, part in zip(encodings, parts, strict=True)
        ]

    async def _append(self, entries: list[tuple[str, NewEntry]]) -> None:
        """Return when ``entries`` are durable.

        Raises:
            Refused: they are not known to be.
        """
        try:
            durable = asyncio.wrap_future(self._journal.append(entries))
            # Shielded: what was submitted goes on, whether or not we still wait for it.
            await asyncio.wait_for(asyncio.shield(durable), self.limits.journal_seconds)
        except TimeoutError as error:
            raise Refused(Refusal.JOURNAL_UNAVAILABLE, "The journal is too slow now; send again.") from error
        except JournalFull as error:
            raise Refused(Refusal.JOURNAL_FULL, "The journal is full; send again.") from error
        except JournalUnavailable as error:
            raise Refused(Refusal.JOURNAL_UNAVAILABLE, "The journal is unavailable; send again.") from error
        self.metrics.journaled_entries.inc(len(entries))

    async def _probe(self) -> str | None:
        if not isinstance(self._journal, SupportsProbe):
            return None
        now = time.monotonic()
        if now - self._probed >= _PROBE_KEPT_SECONDS:
            self._probed = now
            try:
                await asyncio.wait_for(asyncio.wrap_future(self._journal.probe()), _PROBE_SECONDS)
                self._probe_result = None
            except TimeoutError:
                self._probe_result = f"the journal did not make a write durable within {_PROBE_SECONDS:g} s"
            except AuditSpanError as error:
                self._probe_result = error.message
            except Exception as error:  # whatever it was, nothing says that a write would be durable
                _log.exception("the journal's probe met an unexpected fault")
                self._probe_result = f"the journal cannot be asked ({type(error).__name__})"
            except BaseException:
                # Whoever asked is gone, without an answer: the next one asks anew.
                self._probed = float("-inf")
                raise
        return self._probe_result


def build_admission(
    journal: Journal,
    tokens: TokenRegistry,
    limits: AdmissionLimits,
    metrics: CollectorMetrics,
    disk: DiskWatermark,
) -> Admission:
    """The admission of one process, to be shared by `http_app` and `serve_grpc`."""
    return Admission(journal, tokens, limits, metrics, disk)


def _is_loopback(peer: str | None) -> bool:
    try:
        return peer is not None and ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
