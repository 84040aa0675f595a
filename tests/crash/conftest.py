from __future__ import annotations

import logging
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), *(str(HERE.parent / folder) for folder in ("service", "kafka", "faults"))]
"""For the slow deriver, the final checks, the brokers and the proxy."""

for noisy in ("clickhouse_connect", "urllib3", "kafka"):
    # They say of every killed server that it is not there.
    logging.getLogger(noisy).setLevel(logging.CRITICAL)
