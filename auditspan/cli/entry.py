"""The entry point of the program, which a light base install has as well."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the program; exit status 1 where the base install alone is there, which records and has no commands."""
    try:
        from auditspan.cli.main import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "auditspan":
            raise
        sys.exit(
            f"Error: The commands are not installed here: {error.name} is missing.\n"
            "Run: pip install 'auditspan[pipeline]', or 'auditspan[verify]' to verify evidence alone. "
            "Recording works without it."
        )
    run()
