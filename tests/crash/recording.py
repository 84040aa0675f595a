"""A process that records through the manual API into a real spool, until its standard input ends or it is killed.

``python recording.py NAME DIARY``, with ``AUDITSPAN_ENDPOINT``, ``AUDITSPAN_TOKEN`` and ``AUDITSPAN_SPOOL_DIRECTORY``.
What was recorded is written down after the call returned: from then on it may not be lost, whatever happens.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "service")]

from auditspan.instrumentation import audit  # noqa: E402
from auditspan.instrumentation.recorder import Recorder, set_recorder  # noqa: E402
from auditspan.instrumentation.settings import InstrumentationSettings  # noqa: E402
from delivered import Diary  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402


def main(name: str, path: Path) -> int:
    settings = dataclasses.replace(
        InstrumentationSettings.from_environment(),
        backoff_initial=0.02,
        backoff_limit=0.5,
        heartbeat_interval=1.0,
        adoption_interval=0.5,
        exit_timeout=60.0,
    )
    recorder = Recorder(settings, resource=Resource({"service.name": name}))
    set_recorder(recorder)
    diary = Diary(path)
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    number = 0
    while not told.is_set():
        text = f"{name}-{os.getpid()}-{time.time_ns()}-{number}"
        diary.begun(text)
        record_id = audit.record(
            "model.access",
            {"audit.action": text, "audit.outcome": "success", "export_control.destination.country": "DE"},
        )
        diary.recorded(text, record_id)
        number += 1
        told.wait(random.expovariate(50))
    whole = recorder.flush(120)
    recorder.close()
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
