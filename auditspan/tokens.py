"""Bearer tokens: the only thing that says which emitter sent a record, and which officer activates rules.

A token is 256 random bits. The registry keeps its SHA-256 only: for a secret of that entropy a slow password hash adds
nothing. Revocation keeps the line, with its time, so that it stays known who could send when.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from auditspan.durable import sync
from auditspan.errors import AuditSpanError

__all__ = ["ANONYMOUS", "EMITTER", "OFFICER", "ROLES", "TokenInfo", "TokenRegistry", "TokensUnavailable"]

ANONYMOUS: Final = "anonymous"
"""Emitter of requests without a token, where the operator allows them."""

EMITTER: Final = "emitter"
"""Role of who sends records."""
OFFICER: Final = "officer"
"""Role of a person who activates rules, adopts proposals and the like, and whose name is sealed with it."""
ROLES: Final = (EMITTER, OFFICER)

_PREFIX: Final = "ast_"
_OFFICER_PREFIX: Final = "aso_"
_LONGEST_TOKEN: Final = 256
# No colon: `kafka:<cluster>/<topic>` and the like are names that the pipeline itself gives.
_EMITTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}")
_RESERVED: Final = frozenset({ANONYMOUS, "internal"})
_FORMAT: Final = 1
# A revocation acts within this time, plus the time of one check.
_RECHECK_SECONDS: Final = 0.25


class TokensUnavailable(AuditSpanError):
    """The registry cannot be read or written. Says nothing about a token: senders should retry."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One token, without the token. Times are nanoseconds since 1970; ``revoked`` is None while it is valid.

    ``emitter`` names who has it, in whatever role; ``roles`` are some of `ROLES`.
    """

    id: str
    emitter: str
    sha256: str
    created: int
    revoked: int | None = None
    roles: tuple[str, ...] = (EMITTER,)


_Tokens = list[TokenInfo]


@dataclass(frozen=True, slots=True)
class _Loaded:
    stamp: tuple[int, int, int] | None
    valid: dict[str, TokenInfo]


class TokenRegistry:
    """Tokens in the JSON file ``path`` (0600). Several processes may use it; a change is seen within half a second."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._guard = threading.Lock()
        self._loaded = _Loaded(None, {})
        self._checked = float("-inf")

    def create(self, emitter: str, roles: Collection[str] = (EMITTER,)) -> str:
        """A new token for ``emitter``, good for ``roles`` alone, which cannot be read back later.

        Raises:
            AuditSpanError: ``emitter`` is no name that an emitter or officer may have, or a role is none of `ROLES`.
            TokensUnavailable: the file cannot be written.
        """
        given = tuple(role for role in ROLES if role in roles)
        if not given or len(given) != len(set(roles)):
            raise AuditSpanError(
                f"A token cannot have the role {', '.join(sorted(set(roles) - set(ROLES))) or 'of nobody'}.",
                remedy=f"The roles are {' and '.join(ROLES)}.",
            )
        if not _EMITTER.fullmatch(emitter) or emitter in _RESERVED:
            raise AuditSpanError(
                f"{emitter!r} cannot be the name of an emitter.",
                remedy="Use 1 to 128 letters, digits and . _ / @ -, starting with a letter or digit; "
                f"{' and '.join(sorted(_RESERVED))} are reserved.",
            )
        token = (_OFFICER_PREFIX if OFFICER in given else _PREFIX) + secrets.token_urlsafe(32)
        with self._changing() as tokens:
            tokens.append(TokenInfo(secrets.token_hex(4), emitter, _digest(token), time.time_ns(), roles=given))
        return token

    def check(self, token: str, role: str = EMITTER) -> str | None:
        """Who has this valid token in that role, or None.

        Raises:
            TokensUnavailable: the file cannot be read.
        """
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        digest = _digest(token)
        # A token that is not known may be a new one: its first request must not meet a refusal that nobody retries.
        found = self._current().valid.get(digest) or self._current(fresh=True).valid.get(digest)
        # The look-up is by hash, whose timing says nothing useful about a secret; the comparison takes constant time.
        if found is None or not hmac.compare_digest(found.sha256, digest) or role not in found.roles:
            return None
        return found.emitter

    def revoke(self, name: str) -> _Tokens:
        """Revoke the token with the id ``name``, or all valid tokens of the emitter ``name``; those that were revoked.

        Raises:
            AuditSpanError: there is no valid token of that id or emitter.
            TokensUnavailable: the file cannot be written.
        """
        revoked = []
        with self._changing() as tokens:
            for index, token in enumerate(tokens):
                if token.revoked is None and name in (token.id, token.emitter):
                    tokens[index] = replace(token, revoked=time.time_ns())
                    revoked.append(tokens[index])
            if not revoked:
                raise AuditSpanError(
                    f"There is no valid token with the id or name {name!r}.",
                    remedy="`auditspan token list` shows what there is.",
                )
        return revoked

    def list(self) -> _Tokens:
        """All tokens, revoked ones included, in order of creation.

        Raises:
            TokensUnavailable: the file cannot be read.
        """
        return _read(self._path)

    def _current(self, *, fresh: bool = False) -> _Loaded:
        now = time.monotonic()
        with self._guard:
            if fresh or now - self._checked >= _RECHECK_SECONDS:
                stamp = _stamp(self._path)
                if stamp is None or stamp != self._loaded.stamp:
                    valid = {token.sha256: token for token in _read(self._path) if token.revoked is None}
                    self._loaded = _Loaded(stamp, valid)
                self._checked = now
            return self._loaded

    @contextmanager
    def _changing(self) -> Iterator[_Tokens]:
        """The tokens, to be changed; written when the block ends without an error. One process at a time."""
        try:
            descriptor = os.open(
                self._path.with_name(self._path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise _unavailable(self._path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            tokens = _read(self._path)
            yield tokens
            _write(self._path, tokens)
        finally:
            os.close(descriptor)
        with self._guard:
            self._checked = float("-inf")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable(path, error) from error
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> list[TokenInfo]:
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                raise TokensUnavailable(
                    f"Others than its owner can write {path}, and so admit anybody.", remedy=f"chmod 600 {path}"
                )
            document = json.load(file)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']}, not {_FORMAT}")
        return [_info(token) for token in document["tokens"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unavailable(path, error) from error


def _info(said: dict[str, Any]) -> TokenInfo:
    """As the file says it; files from before there were roles are of emitters."""
    info = TokenInfo(**said)
    roles = tuple(info.roles)
    if not roles or not set(roles) <= set(ROLES):
        raise ValueError(f"the token {info.id} has a role that is none")
    return replace(info, roles=roles)


def _said(info: TokenInfo) -> dict[str, Any]:
    """The other way round: an earlier version reads the file of a deployment that has emitters alone."""
    said = asdict(info)
    if info.roles == (EMITTER,):
        del said["roles"]
    return said


def _write(path: Path, tokens: list[TokenInfo]) -> None:
    """Replace the file in one step, so that a reader or a crash never meets half of it."""
    temporary = path.with_name(path.name + ".new")
    text = json.dumps({"format": _FORMAT, "tokens": [_said(token) for token in tokens]}, indent=1) + "\n"
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise _unavailable(path, error) from error


def _unavailable(path: Path, error: BaseException) -> TokensUnavailable:
    return TokensUnavailable(
        f"The token registry {path} cannot be used: {error}.", remedy="Check the file and its permissions."
    )
