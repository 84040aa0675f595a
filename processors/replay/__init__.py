"""Replay: every leaf of a log derived again from the journal, and compared with the store and what was signed.

`auditspan.processors.replay.deployment.replay` is the way in; the other modules hold one idea each.
"""
