"""What the environment says about recording: where, how durable, and what happens when recording is not possible.

Every setting is one ``AUDITSPAN_…`` variable, so that ``opentelemetry-instrument`` needs no code change. Times are
seconds, sizes are bytes.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from ..errors import AuditSpanError
from .enforcement.settings import ENFORCEABLE, REFUSING, DecideWith, EnforcementSettings, WithoutDecision

__all__ = ["InstrumentationSettings", "Mode", "OnFailure", "SettingsError"]

_Choice = TypeVar("_Choice", bound=StrEnum)

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"


class SettingsError(AuditSpanError):
    """A variable of the environment that cannot be used."""


class Mode(StrEnum):
    """How durable a record is before the recorded call goes on."""

    LOCAL = "local"
    """In the kernel: survives a killed process; ``fdatasync`` within 100 ms, so power loss costs at most that."""

    LOCAL_SYNC = "local_sync"
    """On the disk: ``fdatasync`` has returned."""

    RECEIPT = "receipt"
    """At the collector: it has acknowledged the record, which it does only when its journal is durable."""


class OnFailure(StrEnum):
    """What an import or a start-up self-test that fails does to the host process."""

    CONTINUE = "continue"
    """Log the error and let the host go on, without the part that failed."""

    REFUSE = "refuse"
    """End the process before it serves anything."""


@dataclass(frozen=True, slots=True)
class InstrumentationSettings:
    """Settings of the recording side. ``from_environment`` reads and checks them; the token is never in ``repr``."""

    endpoint: str = DEFAULT_ENDPOINT
    """Base URL of the collector's OTLP/HTTP receiver; ``/v1/traces`` is added."""

    token: str = field(default="", repr=False)
    """Bearer token of this emitter."""

    spool_directory: Path = Path("auditspan-spool")
    mode: Mode = Mode.LOCAL
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Mode per event class, over ``mode``."""

    fail_closed: frozenset[str] = frozenset()
    """Event classes whose action is refused when its record cannot be made durable."""

    trusted_proxies: tuple[IPNetwork, ...] = ()
    """Networks whose ``X-Forwarded-For`` and ``Forwarded`` are believed. None by default."""

    disabled: bool = False
    on_import_failure: OnFailure = OnFailure.CONTINUE
    on_self_test_failure: OnFailure = OnFailure.CONTINUE
    spool_limit: int = 4 * 1024**3
    """Bytes that the spool directory may hold; beyond it records are refused or become a gap, as on a full disk."""

    segment_size: int = 8 * 1024**2
    record_limit: int = 8 * 1024**2
    """Largest encoded record; a larger one becomes a gap (``oversize``)."""

    batch_bytes: int = 1024**2
    batch_records: int = 2048
    heartbeat_interval: float = 30.0
    sync_interval: float = 0.1
    """Longest time between a record in mode ``local`` and its ``fdatasync``."""

    sync_timeout: float = 10.0
    receipt_timeout: float = 10.0
    request_timeout: float = 10.0
    exit_timeout: float = 2.0
    """Longest time the process waits at exit for records to be acknowledged; the rest stays in the spool."""

    backoff_initial: float = 0.1
    backoff_limit: float = 15.0
    adoption_interval: float = 10.0
    enforcement: EnforcementSettings = field(default_factory=EnforcementSettings)
    """What is refused before it happens. Nothing by default."""

    def mode_for(self, event_class: str, mode: Mode | str | None = None) -> Mode:
        """Mode of a record: the call's, else the class's, else the default; ``fail_closed`` is never just `local`."""
        chosen = Mode(mode) if mode is not None else self.modes.get(event_class, self.mode)
        if chosen is Mode.LOCAL and event_class in self.fail_closed:
            return Mode.LOCAL_SYNC
        return chosen

    def is_trusted_proxy(self, address: str) -> bool:
        """Whether a forwarded header from this peer is believed."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.trusted_proxies)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> InstrumentationSettings:
        """Read ``AUDITSPAN_…`` variables.

        Raises:
            SettingsError: a value cannot be used; the message names the variable and what it takes.
        """
        return _Reader(os.environ if environment is None else environment).settings()


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


class _Reader:
    """Turns variables into values, and a value that does not fit into an error that names its variable."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def _text(self, name: str, default: str = "") -> str:
        return self._environment.get(f"AUDITSPAN_{name}", "").strip() or default

    def _flag(self, name: str) -> bool:
        text = self._text(name).lower()
        if text not in _TRUE | _FALSE:
            raise SettingsError(f"AUDITSPAN_{name} is neither true nor false.", remedy="Set it to `true` or `false`.")
        return text in _TRUE

    def _seconds(self, name: str, default: float) -> float:
        text = self._text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 86_400:
            raise SettingsError(f"AUDITSPAN_{name} is no time in seconds.", remedy="Set it to a number such as `2.5`.")
        return value

    def _bytes(self, name: str, default: int, least: int) -> int:
        text = self._text(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise SettingsError(
                f"AUDITSPAN_{name} is no size.", remedy=f"Set it to a number of bytes, at least {least}."
            )
        return int(text)

    def _mode(self, name: str, text: str) -> Mode:
        try:
            return Mode(text)
        except ValueError:
            raise SettingsError(
                f"AUDITSPAN_{name} names an unknown mode.", remedy="Modes are `local`, `local_sync` and `receipt`."
            ) from None

    def _on_failure(self, name: str) -> OnFailure:
        try:
            return OnFailure(self._text(name, OnFailure.CONTINUE))
        except ValueError:
            raise SettingsError(
                f"AUDITSPAN_{name} names an unknown policy.", remedy="Policies are `continue` and `refuse`."
            ) from None

    def _choice(self, name: str, choices: type[_Choice], default: _Choice) -> _Choice:
        try:
            return choices(self._text(name, default))
        except ValueError:
            named = ", ".join(f"`{choice}`" for choice in choices)
            raise SettingsError(f"AUDITSPAN_{name} has an unknown value.", remedy=f"It takes: {named}.") from None

    def _some(self, name: str, allowed: frozenset[str], default: frozenset[str]) -> frozenset[str]:
        found = frozenset(self._list(name)) or default
        if strange := sorted(found - allowed):
            raise SettingsError(
                f"AUDITSPAN_{name} cannot name {strange[0]!r}.", remedy=f"It takes: {', '.join(sorted(allowed))}."
            )
        return found

    def _list(self, name: str) -> list[str]:
        return [item.strip() for item in self._text(name).split(",") if item.strip()]

    def _modes(self) -> dict[str, Mode]:
        modes: dict[str, Mode] = {}
        for item in self._list("MODES"):
            event_class, separator, text = item.partition("=")
            if not separator:
                raise SettingsError(
                    "AUDITSPAN_MODES has an entry without `=`.",
                    remedy="Write `model.transfer=local_sync,model.access=local`.",
                )
            modes[event_class.strip()] = self._mode("MODES", text.strip())
        return modes

    def _proxies(self) -> tuple[IPNetwork, ...]:
        try:
            return tuple(ipaddress.ip_network(item, strict=False) for item in self._list("TRUSTED_PROXIES"))
        except ValueError:
            raise SettingsError(
                "AUDITSPAN_TRUSTED_PROXIES has an entry that is no network.",
                remedy="Write addresses or networks such as `10.0.0.0/8,192.0.2.7`.",
            ) from None

    def _enforcement(self, token: str) -> EnforcementSettings:
        plain = EnforcementSettings()
        endpoint = self._text("ENFORCE_ENDPOINT")
        return EnforcementSettings(
            classes=self._some("ENFORCE", ENFORCEABLE, plain.classes),
            outcomes=self._some("ENFORCE_OUTCOMES", REFUSING, plain.outcomes),
            without_decision=self._choice("ENFORCE_WITHOUT_DECISION", WithoutDecision, plain.without_decision),
            decide_with=self._choice("ENFORCE_DECIDE_WITH", DecideWith, plain.decide_with),
            endpoint=self._endpoint(token, "ENFORCE_ENDPOINT", "/v1/decide") if endpoint else "",
            data_directory=self._text("DATA_DIRECTORY"),
            timeout=self._seconds("ENFORCE_TIMEOUT_SECONDS", plain.timeout),
            largest_age=self._seconds("ENFORCE_SNAPSHOT_SECONDS", plain.largest_age),
            break_glass_reason=self._text("BREAK_GLASS_REASON"),
        )

    def _endpoint(self, token: str, name: str = "ENDPOINT", path: str = "/v1/traces") -> str:
        text = self._text(name, DEFAULT_ENDPOINT).rstrip("/").removesuffix(path)
        remedy = "Set it to a URL such as `https://collector.example:4318`."
        try:
            parts = urlsplit(text)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username is not None or parts.query or parts.fragment:
            raise SettingsError(
                f"AUDITSPAN_{name} is no http or https URL without user, query and fragment.", remedy=remedy
            )
        in_clear = parts.scheme == "http" and not _is_loopback(parts.hostname or "")
        if token and in_clear and not self._flag("ALLOW_CLEARTEXT"):
            raise SettingsError(
                "AUDITSPAN_TOKEN would cross the network in clear.",
                remedy="Use https, or set AUDITSPAN_ALLOW_CLEARTEXT=true where the network is encrypted.",
            )
        return text

    def _token(self) -> str:
        token = self._text("TOKEN")
        path = self._text("TOKEN_FILE")
        if not token and path:
            try:
                token = Path(path).read_text().strip()
            except (OSError, ValueError) as error:
                raise SettingsError(
                    f"AUDITSPAN_TOKEN_FILE cannot be read ({type(error).__name__}).",
                    remedy="Name a file that this process may read and that holds the token alone.",
                ) from None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError("AUDITSPAN_TOKEN has characters that no token has.", remedy="Paste the token again.")
        return token

    def _spool_directory(self) -> Path:
        text = self._text("SPOOL_DIRECTORY")
        if text:
            return Path(text).expanduser().absolute()
        state = self._environment.get("XDG_STATE_HOME", "")
        home = Path(self._environment.get("HOME") or "/var/tmp")  # noqa: S108
        base = Path(state) if state else home / ".local" / "state"
        return (base / "auditspan" / "spool").absolute()

    def settings(self) -> InstrumentationSettings:
        token = self._token()
        return InstrumentationSettings(
            endpoint=self._endpoint(token),
            token=token,
            spool_directory=self._spool_directory(),
            mode=self._mode("MODE", self._text("MODE", Mode.LOCAL)),
            modes=self._modes(),
            fail_closed=frozenset(self._list("FAIL_CLOSED")),
            trusted_proxies=self._proxies(),
            disabled=self._flag("DISABLED"),
            on_import_failure=self._on_failure("ON_IMPORT_FAILURE"),
            on_self_test_failure=self._on_failure("ON_SELF_TEST_FAILURE"),
            spool_limit=self._bytes("SPOOL_LIMIT_BYTES", 4 * 1024**3, 65_536),
            segment_size=self._bytes("SEGMENT_BYTES", 8 * 1024**2, 4_096),
            record_limit=self._bytes("RECORD_LIMIT_BYTES", 8 * 1024**2, 4_096),
            batch_bytes=self._bytes("BATCH_BYTES", 1024**2, 1_024),
            batch_records=self._bytes("BATCH_RECORDS", 2048, 1),
            heartbeat_interval=self._seconds("HEARTBEAT_SECONDS", 30.0),
            receipt_timeout=self._seconds("RECEIPT_TIMEOUT_SECONDS", 10.0),
            request_timeout=self._seconds("REQUEST_TIMEOUT_SECONDS", 10.0),
            exit_timeout=self._seconds("EXIT_TIMEOUT_SECONDS", 2.0),
            enforcement=self._enforcement(token),
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
