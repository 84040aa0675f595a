"""The program starts its services without pandas, which Arrow would load beside them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from auditspan.cli.main import main
sys.argv = ['auditspan', '--version']
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending
import auditspan.cli.service
assert 'pyarrow' in sys.modules and auditspan.cli.service.run_service
sys.exit('pandas was loaded' if 'pandas' in sys.modules else 0)
"""


def test_a_service_loads_no_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
