"""Draw what compose.yaml needs and nothing may ship: passwords, the users of ClickHouse, the id of the Kafka cluster.

``python3 deploy/prepare.py [DEPLOYMENT]`` writes ``deploy/.env`` and ``deploy/secrets/``. What is there already is
kept: a second run changes nothing.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import secrets
import uuid
from pathlib import Path

HERE = Path(__file__).parent

ROLES = {
    # The schema alone; only the init job uses it.
    "owner": ["GRANT ALL ON auditspan.*"],
    # Seals: no ALTER, no TRUNCATE, no DROP.
    "writer": ["GRANT SELECT, INSERT ON auditspan.*"],
    "reader": ["GRANT SELECT ON auditspan.*"],
}
"""Users of ClickHouse, each with its grants."""

READER_LIMITS = {"max_execution_time": 300, "max_memory_usage": 2_000_000_000}


def main() -> None:
    """Write what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "deployment", nargs="?", default="auditspan.local", help="name of the deployment, in every signature"
    )
    parser.add_argument("--to", type=Path, default=HERE, help="where .env and secrets/ go; default: beside this file")
    options = parser.parse_args()
    prepare(options.to, options.deployment)
    print(f"Ready: {options.to / '.env'}, {options.to / 'secrets'}/")


def prepare(folder: Path, deployment: str) -> None:
    """Write ``.env`` and ``secrets/`` below ``folder`` where they are missing."""
    kept = folder / "secrets"
    kept.mkdir(mode=0o700, exist_ok=True)
    kept.chmod(0o700)
    passwords = {role: _secret(kept / f"store_{role}") for role in ROLES}
    _write(kept / "clickhouse_users.xml", users_xml(passwords))
    # 16 random bytes as the 22 characters that Kafka takes.
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    _write(folder / ".env", f"AUDITSPAN_DEPLOYMENT={deployment}\nKAFKA_CLUSTER_ID={cluster}\n")


def users_xml(passwords: dict[str, str]) -> str:
    """Configuration of ClickHouse's users: the roles alone, and no user without a password."""
    users = []
    for role, grants in ROLES.items():
        digest = hashlib.sha256(passwords[role].encode()).hexdigest()
        queries = "".join(f"<query>{grant}</query>" for grant in grants)
        profile = "auditspan_reader" if role == "reader" else "default"
        users.append(
            f"    <{role}>\n"
            f"      <password_sha256_hex>{digest}</password_sha256_hex>\n"
            f"      <networks><ip>::/0</ip></networks>\n"
            f"      <profile>{profile}</profile>\n"
            f"      <quota>default</quota>\n"
            f"      <grants>{queries}</grants>\n"
            f"    </{role}>"
        )
    limits = "".join(f"<{name}>{value}</{name}>" for name, value in READER_LIMITS.items())
    return "\n".join(
        [
            "<clickhouse>",
            "  <profiles>",
            f"    <auditspan_reader>{limits}</auditspan_reader>",
            "  </profiles>",
            "  <users>",
            '    <default remove="remove"/>',
            *users,
            "  </users>",
            "</clickhouse>",
            "",
        ]
    )


def _secret(path: Path) -> str:
    _write(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


def _write(path: Path, content: str) -> None:
    """Write a new file. Containers read it as other users, so it is the folder around it that keeps it private."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), 0o444)
        file.write(content)


if __name__ == "__main__":
    main()
