"""What a botocore client says about who calls, from which account and to which region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Any, Final

from .. import semconv
from ..semconv import Outcome
from .encode import AttributeValue
from .fingerprint import credential_fingerprint
from .guard import guarded
from .hooked_action import type_of_error

__all__ = ["caller_attributes", "error_attributes", "outcome_of_error"]

_ACCOUNT: Final = re.compile(r"\d{12}")
_DENIED: Final = frozenset(
    {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "InvalidAccessKeyId",
     "SignatureDoesNotMatch", "ExpiredToken", "Forbidden", "403"}
)  # fmt: skip


def _identity(client: Any, credentials: Any) -> tuple[str | None, str | None]:
    """The access key id and the account of a client's credentials. Refreshing what is due, as the call itself would."""
    credentials = credentials or client._request_signer._credentials
    if credentials is None:
        return None, None
    frozen = credentials.get_frozen_credentials()
    account = getattr(frozen, "account_id", None)
    return frozen.access_key, account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else None


def caller_attributes(client: Any, credentials: Any = None) -> dict[str, AttributeValue]:
    """Actor, provider, region and account of a client's calls; ``credentials`` where they are not the client's own.

    The actor is the fingerprint of the access key id. A temporary key has another id in every session: then the party
    registry needs the role's user or another record to join it with.
    """
    key, account = guarded("aws.credentials", (None, None), _identity, client, credentials)
    region = guarded("aws.region", None, lambda: client.meta.region_name)
    return {
        semconv.AUDIT_ACTOR_ID: credential_fingerprint(key) if key else "anonymous",
        semconv.AUDIT_ACTOR_TYPE: "credential" if key else "anonymous",
        semconv.CLOUD_PROVIDER: "aws",
        semconv.CLOUD_REGION: region if isinstance(region, str) else None,
        semconv.CLOUD_ACCOUNT_ID: account,
    }


def error_code(error: BaseException) -> str | None:
    """The code of a botocore ``ClientError``; None for any other exception."""
    response = getattr(error, "response", None)
    details = response.get("Error") if isinstance(response, Mapping) else None
    code = details.get("Code") if isinstance(details, Mapping) else None
    return str(code)[:128] if code else None


def outcome_of_error(error: BaseException) -> Outcome:
    """How an action ended that raised."""
    if not isinstance(error, Exception) or isinstance(error, CancelledError):
        return Outcome.INTERRUPTED
    return Outcome.DENIED if error_code(error) in _DENIED else Outcome.FAILURE


def error_attributes(error: BaseException) -> dict[str, AttributeValue]:
    """``error.type``: the service's code where there is one, else the class of the exception."""
    return {semconv.ERROR_TYPE: error_code(error) or type_of_error(error)}
