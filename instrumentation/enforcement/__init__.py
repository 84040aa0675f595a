"""Refusing before the act: an enforced class asks for a decision first, and does not happen when it says no.

Monitoring alone is the default: nothing is asked for a class that ``AUDITSPAN_ENFORCE`` does not name.
"""
