"""Recording: hooks, the manual API, and the spool that holds every record until the collector has it.

::

    from auditspan.instrumentation import audit

Importing this package loads nothing; what is used loads OpenTelemetry and the standard library, nothing else.
"""
