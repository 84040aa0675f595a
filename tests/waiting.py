"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], what: str = "it to hold", seconds: float = 60.0, pause: float = 0.01) -> Any:
    """What ``holds`` gives as soon as it is true; asked every ``pause`` seconds, which spares whoever has to answer."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(pause)
    return found
