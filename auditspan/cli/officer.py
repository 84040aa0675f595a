"""Who the officer is: by a credential, never by a name that somebody types."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Final

import typer

from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.tokens import OFFICER, TokenRegistry

__all__ = ["NotAnOfficer", "TokenFileOption", "identify", "officer_token"]

_VARIABLE: Final = "AUDITSPAN_OFFICER_TOKEN"
_LONGEST: Final = 4096
_HOW: Final = "`auditspan token create NAME --role officer` makes one."

TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help=f"File with the officer's token, readable by its owner alone; default: what is in {_VARIABLE}.",
        dir_okay=False,
    ),
]


class NotAnOfficer(AuditSpanError):
    """No credential, or one that is no officer's."""


def officer_token(file: Path | None) -> str:
    """The token in ``file``, or else in the environment. It is never repeated in a message.

    Raises:
        NotAnOfficer: there is none, or others than its owner can read the file.
    """
    if file is None:
        token = os.environ.get(_VARIABLE, "").strip()
        if not token:
            raise NotAnOfficer(
                "It must be known which officer does this.", remedy=f"Give --token-file, or set {_VARIABLE}. {_HOW}"
            )
        return token
    try:
        with file.open("rb") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise NotAnOfficer(f"Others than its owner can use {file}.", remedy=f"chmod 600 {file}")
            said = opened.read(_LONGEST + 1)
    except OSError as error:
        raise NotAnOfficer(
            f"The token file {file} cannot be read: {error.strerror}.", remedy="Name the file with the officer's token."
        ) from error
    token = said.decode("ascii", "replace").strip()
    if not token or len(said) > _LONGEST:
        raise NotAnOfficer(f"{file} holds no token.", remedy=_HOW)
    return token


def identify(directory: DataDirectory, token: str) -> str:
    """The name of the officer whose valid token this is.

    Raises:
        NotAnOfficer: it is unknown, revoked, or an emitter's.
        TokensUnavailable: the registry cannot be read.
    """
    # A registry that was just read: a revocation acts at once.
    name = TokenRegistry(directory.tokens).check(token, OFFICER)
    if name is None:
        raise NotAnOfficer(
            "The token is not that of an officer: it is unknown, revoked, or an emitter's.",
            remedy=f"`auditspan token list` shows what there is; {_HOW}",
        )
    return name
