"""AuditSpan: an audit trail for export-controlled AI that proves what it says.

Importing this package is cheap on purpose: serving processes import it, so it loads the standard library and
OpenTelemetry only. What judges, seals and stores lives behind the ``pipeline`` extra.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
