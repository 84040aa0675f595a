from __future__ import annotations

import pytest

from auditspan.policy import Reference


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference.packaged()
