"""A day in the shipping office: two shipments of accelerators, and weights that nobody decided on.

    AUDITSPAN_ENDPOINT=… AUDITSPAN_TOKEN=… python examples/who_is_it/ship.py

What has no hook is recorded with the manual API: an intent before, an outcome after.
"""

from __future__ import annotations

from auditspan.instrumentation import audit

from auditspan import semconv

LOGISTICS = "harbour-models"


def ship(end_user: str, country: str, model: str, quantity: int, license: str | None = None) -> None:
    """Accelerators leave the United States."""
    attributes = {
        semconv.AUDIT_ACTION: "ship",
        semconv.AUDIT_ACTOR_ID: LOGISTICS,
        semconv.AUDIT_TARGET_ID: f"{quantity} {model}",
        semconv.ACCELERATOR_MODEL: model,
        semconv.QUANTITY: quantity,
        semconv.ORIGIN_COUNTRY: "US",
        semconv.DESTINATION_COUNTRY: country,
        semconv.END_USER: end_user,
        semconv.CONSIGNEE: end_user,
        semconv.LICENSE: license,
    }
    with audit.action(semconv.EventClass.ACCELERATOR_TRANSFER, attributes):
        print(f"shipped {quantity} {model} to {end_user}, {country}" + (f", under {license}" if license else ""))


def main() -> None:
    ship("red-river-institute", "VN", "H100 SXM", 2, license="D1000001")
    ship("lotus-compute", "MY", "T4", 4)
    with audit.transfer(
        target="s3://models/frontier-7.safetensors",
        actor=LOGISTICS,
        direction="upload",
        destination_country="NO",
        consignee="fjord-research",
        request_id="EXP-2026-0031",
    ):
        print("uploaded frontier-7 for fjord-research, under the request EXP-2026-0031")


if __name__ == "__main__":
    main()
