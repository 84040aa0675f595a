"""The manifest: an in-toto statement in a DSSE envelope (evidence format, section 14)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined, unused-ignore]

from auditspan.ledger.signing_key import SigningKey, key_id, public_bytes
from auditspan.ledger.timestamps import LARGEST_TOKEN

from .layout import MANIFEST, path_is_allowed

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "AnchorEvidence",
    "Included",
    "LogEvidence",
    "Manifest",
    "ManifestInvalid",
    "Previous",
    "key_id",
    "open_envelope",
    "parse_manifest",
    "sign_statement",
    "stated_rotations",
    "statement",
]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://auditspan.dev/evidence/v1"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_LOG_ID: Final = re.compile(r"[0-9a-f]{32}")
_LARGEST: Final = 2**53 - 1
_LONGEST_PROOF: Final = 256
_LONGEST_NOTE: Final = 64 << 10
_MOST_ANCHORS: Final = 256
_MOST_STAMPS: Final = 32
MOST_ROTATIONS: Final = 1_000
"""Statements of one package: one a day for some years."""


class ManifestInvalid(Exception):
    """The manifest is not what it must be. ``code`` is a verifier code."""

    def __init__(self, code: str, expected: str, actual: object) -> None:
        super().__init__(f"{code}: {expected}")
        self.code, self.expected, self.actual = code, expected, actual


@dataclass(frozen=True, slots=True)
class Previous:
    """The checkpoint of an earlier export and the proof that this one only added to it."""

    checkpoint: str
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """What the manifest says of one log: leaves ``[begin, end)``, their proof, and the files that hold them.

    ``anchored`` is a larger size that a round states, with the proof from there to the checkpoint.
    """

    log_id: str
    partition: str
    begin: int
    end: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]
    checkpoint: str
    files: Mapping[str, tuple[str, ...]]
    previous: Previous | None
    anchored: tuple[int, tuple[bytes, ...]] | None = None


@dataclass(frozen=True, slots=True)
class AnchorEvidence:
    """A checkpoint of the control log with what others said of it: signature lines, and RFC 3161 tokens."""

    note: str
    timestamps: tuple[bytes, ...]
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Included:
    """A leaf of the control log outside its interval, with its inclusion path."""

    leaf_index: int
    leaf: bytes
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of format 1, checked for shape and types, and for nothing that needs another file."""

    deployment: str
    exported_at: int
    software: str
    time_from: int
    time_to: int
    where: str | None
    logs: tuple[LogEvidence, ...]
    control: LogEvidence
    included: tuple[Included, ...]
    counts: Mapping[str, int]
    keys: tuple[Any, ...]
    subjects: Mapping[str, str] = field(repr=False)
    anchors: tuple[AnchorEvidence, ...] = ()
    request: Mapping[str, str] | None = None
    """The request that the package answers: its ``id``, ``by`` whom, and legal ``basis``."""


def statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The in-toto Statement v1 over files with these SHA-256 digests."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def sign_statement(value: Mapping[str, Any], key: SigningKey) -> bytes:
    """The DSSE envelope around a statement, as it stands in ``manifest.json``."""
    payload = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    name = key_id(key.public_key())
    envelope.signatures[name] = Signature(name, key.sign(envelope.pae()).hex())
    return json.dumps(envelope.to_dict(), indent=1).encode() + b"\n"


def _dsse_key(key: Ed25519PublicKey) -> SSlibKey:
    return SSlibKey(key_id(key), "ed25519", "ed25519", {"public": public_bytes(key).hex()})


def open_envelope(data: bytes, keys: Sequence[Ed25519PublicKey]) -> tuple[bytes, list[str]]:
    """The payload of an envelope, and the ids of the trusted keys that signed it: none if no trusted key did.

    Raises:
        ManifestInvalid: ``manifest.malformed``: it is no envelope around an in-toto statement.
    """
    try:
        value = _strict_json(data)
        signatures = [{"keyid": str(each["keyid"]), "sig": str(each["sig"])} for each in value["signatures"]]
        envelope = Envelope.from_dict({**value, "signatures": signatures[:64]})
        if value["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"payloadType {value['payloadType']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise ManifestInvalid("manifest.malformed", "a DSSE envelope around an in-toto statement", error) from error
    if not keys:
        return envelope.payload, []
    try:
        accepted = envelope.verify([_dsse_key(key) for key in keys], 1)
    except VerificationError:
        return envelope.payload, []
    return envelope.payload, sorted(accepted)


def parse_manifest(payload: bytes) -> Manifest:
    """A manifest from the payload of its envelope.

    Raises:
        ManifestInvalid: ``manifest.malformed`` or ``manifest.path``.
    """
    try:
        value = _strict_json(payload)
        return _manifest(value)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, binascii.Error) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise ManifestInvalid("manifest.malformed", "a statement as section 14 of the evidence format", what) from error


def stated_rotations(payload: bytes) -> list[Any]:
    """The ``keys`` of a manifest whose signature nobody has looked at yet: what may lead to the key that signed it.

    Empty where there are none, or what is there is no list: `parse_manifest` says so.
    """
    try:
        keys = _strict_json(payload)["predicate"].get("keys", [])
        return _list(keys)[:MOST_ROTATIONS]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return []


def _manifest(value: dict[str, Any]) -> Manifest:
    if value["_type"] != STATEMENT_TYPE or value["predicateType"] != PREDICATE_TYPE:
        raise ValueError("another type of statement")
    subjects = _subjects(value["subject"])
    predicate, query = value["predicate"], value["predicate"]["query"]
    if predicate["format"] != 1:
        raise ManifestInvalid("manifest.malformed", "format 1", predicate["format"])
    logs = tuple(_log(log, ("events", "withheld"), subjects) for log in _list(predicate["logs"]))
    control = predicate["control"]
    made = Manifest(
        deployment=_text(predicate["deployment"]),
        exported_at=_time(predicate["exported_at"]),
        software=_text(predicate["software"]),
        time_from=_time(query["from"]),
        time_to=_time(query["to"]),
        where=None if query["where"] is None else _text(query["where"]),
        logs=logs,
        control=_log(control, ("control",), subjects),
        included=tuple(_included(leaf) for leaf in _list(control["included"])),
        counts={name: _number(predicate["counts"][name]) for name in ("leaves", "selected", "withheld", "flagged")},
        keys=tuple(_list(predicate.get("keys", []))),
        subjects=subjects,
        # Packages from before there were anchors have no such key.
        anchors=tuple(_anchor(each) for each in _bounded(predicate.get("anchors", []), _MOST_ANCHORS)),
        request=None if "request" not in predicate else _request(predicate["request"]),
    )
    if len(made.keys) > MOST_ROTATIONS:
        raise ValueError(f"{len(made.keys)} rotations of keys")
    ids = [log.log_id for log in (*logs, made.control)]
    if len(set(ids)) != len(ids):
        raise ValueError("a log is named twice")
    files = [path for log in (*logs, made.control) for paths in log.files.values() for path in paths]
    if len(set(files)) != len(files):
        raise ValueError("a file is named twice")
    return made


def _subjects(value: Any) -> dict[str, str]:
    subjects: dict[str, str] = {}
    for subject in _list(value):
        name, digest = subject["name"], subject["digest"]["sha256"]
        _check_path(name)
        if name == MANIFEST or name in subjects or not (isinstance(digest, str) and _HEX.fullmatch(digest)):
            raise ValueError(f"the subject {name}")
        subjects[name] = digest
    return subjects


def _check_path(path: object) -> None:
    if not path_is_allowed(path):
        raise ManifestInvalid("manifest.path", "a relative path of A-Z a-z 0-9 . _ - without a leading dot", path)


def _log(value: Any, folders: tuple[str, ...], subjects: Mapping[str, str]) -> LogEvidence:
    begin, end = (_number(bound) for bound in _list(value["interval"]))
    if begin > end:
        raise ValueError(f"the interval [{begin}, {end})")
    if set(value["files"]) != set(folders):
        raise ValueError(f"files of {', '.join(map(str, value['files']))}")
    log_id = _text(value["log_id"])
    if not _LOG_ID.fullmatch(log_id):
        raise ValueError(f"the log id {log_id}")
    files = {folder: tuple(_list(value["files"][folder])) for folder in folders}
    for folder, paths in files.items():
        for path in paths:
            _check_path(path)
            if path not in subjects or not path.startswith(f"{folder}/"):
                raise ValueError(f"{path} is no subject below {folder}/")
    proof, previous, anchored = value["range_proof"], value["previous"], value.get("anchored")
    return LogEvidence(
        log_id=log_id,
        partition=_text(value["partition"]),
        begin=begin,
        end=end,
        left=_hashes(proof["left"]),
        right=_hashes(proof["right"]),
        checkpoint=_text(value["checkpoint"]),
        files=files,
        previous=None
        if previous is None
        else Previous(_text(previous["checkpoint"]), _hashes(previous["consistency"])),
        anchored=None if anchored is None else (_number(anchored["size"]), _hashes(anchored["consistency"])),
    )


def _included(value: Any) -> Included:
    return Included(_number(value["leaf_index"]), _text(value["leaf"]).encode(), _hashes(value["inclusion"]))


def _anchor(value: Any) -> AnchorEvidence:
    note = _text(value["note"])
    stamps = tuple(base64.b64decode(_text(each), validate=True) for each in _bounded(value["timestamps"], _MOST_STAMPS))
    if len(note) > _LONGEST_NOTE or any(len(stamp) > LARGEST_TOKEN for stamp in stamps):
        raise ValueError("an anchor with a note or token that is too long")
    return AnchorEvidence(note, stamps, _hashes(value["consistency"]))


def _bounded(value: Any, most: int) -> list[Any]:
    if len(_list(value)) > most:
        raise ValueError(f"an array of {len(value)}, of which {most} are allowed")
    return list(value)


def _request(value: Any) -> dict[str, str]:
    return {name: _text(value[name]) for name in ("id", "by", "basis")}


def _hashes(value: Any) -> tuple[bytes, ...]:
    if len(_list(value)) > _LONGEST_PROOF:
        raise ValueError(f"a proof of {len(value)} hashes")
    return tuple(base64.b64decode(_text(each), validate=True) for each in value)


def _checked(kind: type, name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{value!r:.80} is no {name}")
        return value

    return check


_text: Final[Callable[[Any], str]] = _checked(str, "text")
_list: Final[Callable[[Any], list[Any]]] = _checked(list, "array")


def _number(value: Any) -> int:
    number = _checked(int, "number")(value)
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"the number {number:.3g}")
    return int(number)


def _time(value: Any) -> int:
    text = _text(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and str(int(text)) == text):
        raise ValueError(f"the time {text!r:.40}")
    return int(text)


def _strict_json(data: bytes) -> Any:
    """JSON in which no key occurs twice, so that two readers cannot read it in two ways."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key occurs twice")
        return made

    return json.loads(data, object_pairs_hook=unique)
