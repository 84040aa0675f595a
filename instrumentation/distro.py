"""The distribution for ``opentelemetry-instrument``: the host's own telemetry as it would be without us, the audit
path beside it.

Another distro or configurator that is installed (``opentelemetry-distro``, a vendor's) is found and does its work.
Where there is none, the SDK is configured only if the environment asks for it, as the SDK's own configurator does: an
application that sets its own tracer provider still can.

Policies, both ``continue`` by default:

- ``AUDITSPAN_ON_SELF_TEST_FAILURE``: settings that cannot be used, or a spool that cannot be written. With unusable
  settings ``continue`` loads no audit hook; with an unusable spool the hooks load, ``fail_closed`` classes refuse,
  and others become gaps.
- ``AUDITSPAN_ON_IMPORT_FAILURE``: an audit hook that cannot be loaded though its library is there.

``refuse`` ends the process before it serves anything. ``AUDITSPAN_DISABLED=true`` loads no audit hook at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol, cast

from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import _BaseConfigurator, _OTelSDKConfigurator
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from .adoption import has_dead_streams
from .recorder import Recorder, set_recorder
from .self_test import self_test
from .settings import InstrumentationSettings, OnFailure, SettingsError

__all__ = ["AuditSpanConfigurator", "AuditSpanDistro", "start_audit"]

_log = logging.getLogger(__name__)
_NAME: Final = "auditspan"
_OURS: Final = "auditspan."
_ASKS_FOR_SDK: Final = (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER, "OTEL_CONFIG_FILE")


class _Configurable(Protocol):
    def configure(self, **kwargs: Any) -> None: ...


def _refuse(problem: str) -> NoReturn:
    """End the process: SystemExit, since the loader swallows every ``Exception``."""
    _log.critical("AuditSpan refuses to start: %s", problem)
    raise SystemExit(f"AuditSpan refuses to start: {problem}")


def _on_failure(variable: str) -> OnFailure:
    """A policy, also when the other settings cannot be read."""
    text = os.environ.get(variable, "").strip()
    # A policy that cannot be read is taken for the strict one: whoever set it wanted something to happen.
    return OnFailure.CONTINUE if text in {"", OnFailure.CONTINUE.value} else OnFailure.REFUSE


def start_audit() -> bool:
    """Test that this process can record and make its recorder; whether audit hooks should be loaded.

    Raises:
        SystemExit: the test failed and ``AUDITSPAN_ON_SELF_TEST_FAILURE`` is ``refuse``.
    """
    policy = _on_failure("AUDITSPAN_ON_SELF_TEST_FAILURE")
    try:
        settings = InstrumentationSettings.from_environment()
    except SettingsError as error:
        if policy is OnFailure.REFUSE:
            _refuse(str(error))
        _log.error("AuditSpan records nothing: %s", error)
        return False
    if settings.disabled:
        _log.warning("AuditSpan is switched off by AUDITSPAN_DISABLED: nothing is recorded.")
        return False
    problems = self_test(settings)
    if problems and policy is OnFailure.REFUSE:
        _refuse(" ".join(problems))
    for problem in problems:
        _log.error("%s", problem)
    recorder = Recorder(settings)
    recorder.prepare()
    set_recorder(recorder)
    # Threads start with the first record: a server that forks its workers should do so with as few as possible.
    if has_dead_streams(settings.spool_directory):
        recorder.start()
    return True


def _host(group: str) -> EntryPoint | None:
    """The first entry point of the group that is not ours: what would have run without us."""
    for entry_point in entry_points(group=group):
        if entry_point.name != _NAME:
            return entry_point
    return None


class AuditSpanDistro(BaseDistro):  # type: ignore[misc]
    """Starts the audit path, then lets the host's distro, if any, do what it does."""

    _audit = True
    _host_distro: BaseDistro | None = None

    def _configure(self, **kwargs: Any) -> None:
        self._audit = start_audit()
        entry_point = _host("opentelemetry_distro")
        if entry_point is not None:
            distro = entry_point.load()()
            if isinstance(distro, BaseDistro):
                self._host_distro = distro
                distro.configure(**kwargs)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentor; ours under the policy for import failures, any other as the host's distro would."""
        if not entry_point.value.startswith(_OURS):
            if self._host_distro is not None:
                self._host_distro.load_instrumentor(entry_point, **kwargs)
            else:
                super().load_instrumentor(entry_point, **kwargs)
            return
        if not self._audit:
            return
        try:
            super().load_instrumentor(entry_point, **kwargs)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in {"auditspan", "opentelemetry", "wrapt", ""}:
                # The library to hook is not installed, so nothing passes unrecorded.
                raise
            self._failed(entry_point, error)
        except Exception as error:  # an import can raise anything; the policy says what becomes of it
            self._failed(entry_point, error)

    @staticmethod
    def _failed(entry_point: EntryPoint, error: Exception) -> None:
        problem = f"the audit hook {entry_point.name} cannot be loaded ({type(error).__name__}: {error})."
        if _on_failure("AUDITSPAN_ON_IMPORT_FAILURE") is OnFailure.REFUSE:
            _refuse(problem)
        _log.error("AuditSpan goes on without a hook: %s", problem, exc_info=error)


class AuditSpanConfigurator(_BaseConfigurator):
    """Configures the SDK as it would be without us."""

    def _configure(self, **kwargs: Any) -> None:
        entry_point = _host("opentelemetry_configurator")
        if entry_point is not None:
            cast(_Configurable, entry_point.load()()).configure(**kwargs)
        elif any(os.environ.get(name) for name in _ASKS_FOR_SDK):
            cast(Callable[[], _Configurable], _OTelSDKConfigurator)().configure(**kwargs)
