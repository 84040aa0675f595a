"""Whose deployment this is: the company that exports, a party of the registry. Directives bind an addressee."""

from __future__ import annotations

import json
from typing import Final

from .errors import PolicyError
from .parties import Parties, validate
from .yaml_text import load

__all__ = ["DEPLOYMENT", "deployment_artifact", "exporter_of"]

DEPLOYMENT: Final = "deployment.yaml"
"""Name of the file among the artifacts of a reference; without it nobody is known to be the exporter."""


def deployment_artifact(exporter: str) -> bytes:
    """The artifact that says that the party ``exporter`` runs this deployment."""
    return f"exporter: {json.dumps(exporter, ensure_ascii=False)}\n".encode()


def exporter_of(text: bytes | None, parties: Parties) -> str | None:
    """Id of the party that runs this deployment; None without an artifact.

    Raises:
        PolicyError: not as ``data/deployment.schema.json`` says, or a party that is not in the registry: a letter that
            binds a mistyped name would bind nobody.
    """
    if text is None:
        return None
    document = load(text, DEPLOYMENT)
    validate(document, "deployment.schema.json")
    exporter = str(document.data["exporter"])
    if parties.by_id(exporter) is None:
        raise PolicyError(
            f"the exporter {exporter!r} is no party of the registry",
            file=DEPLOYMENT,
            line=document.line(("exporter",)),
            remedy="Add the company to parties.yaml under this id, or correct the setting `policy.exporter`.",
        )
    return exporter
