"""Draw what compose.yaml needs and nothing may ship: passwords, the users of ClickHouse, the id of the Kafka cluster.

``python3 deploy/prepare.py [DEPLOYMENT]`` writes ``deploy/.env`` and ``deploy/secrets/``. What is there already is
kept: a second run changes nothing.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import secrets
import uuid
from pathlib import Path

HERE = Path(__file__).parent

ROLES_SQL = HERE / "clickhouse" / "roles.sql"
"""Who may do what on a ClickHouse server: here as XML, since passwords of this deployment go with it."""
USERS = ("owner", "writer", "reader")
"""Only the job `init` uses the owner."""


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
    passwords = {role: _secret(kept / f"store_{role}") for role in USERS}
    _write(kept / "clickhouse_users.xml", users_xml(passwords))
    # 16 random bytes as the 22 characters that Kafka takes.
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    _write(folder / ".env", f"AUDITSPAN_DEPLOYMENT={deployment}\nKAFKA_CLUSTER_ID={cluster}\n")


def rights() -> dict[str, tuple[list[str], dict[str, str]]]:
    """The grants and the settings of each user, as ``clickhouse/roles.sql`` has them."""
    text = re.sub(r"--.*", "", ROLES_SQL.read_text())
    found: dict[str, tuple[list[str], dict[str, str]]] = {user: ([], {}) for user in USERS}
    for grant, user in re.findall(r"(GRANT [^;]*?) TO auditspan_(\w+)\s*;", text):
        found[user][0].append(" ".join(grant.split()))
    for settings, user in re.findall(r"SETTINGS PROFILE[^;]*? SETTINGS\s+([^;]*?)\s+TO auditspan_(\w+)\s*;", text):
        pairs = (setting.partition("=") for setting in settings.split(","))
        found[user][1].update((name.strip(), value.strip().strip("'")) for name, _, value in pairs)
    return found


def users_xml(passwords: dict[str, str]) -> str:
    """Configuration of ClickHouse's users: ours alone, and none without a password."""
    users, profiles = [], []
    for user, (grants, settings) in rights().items():
        digest = hashlib.sha256(passwords[user].encode()).hexdigest()
        queries = "".join(f"<query>{grant}</query>" for grant in grants)
        lines = "".join(f"<{name}>{value}</{name}>" for name, value in settings.items())
        profiles.append(f"    <auditspan_{user}>{lines}</auditspan_{user}>")
        users.append(
            f"    <{user}>\n"
            f"      <password_sha256_hex>{digest}</password_sha256_hex>\n"
            f"      <networks><ip>::/0</ip></networks>\n"
            f"      <profile>auditspan_{user}</profile>\n"
            f"      <quota>default</quota>\n"
            f"      <grants>{queries}</grants>\n"
            f"    </{user}>"
        )
    return "\n".join(
        [
            "<clickhouse>",
            "  <profiles>",
            *profiles,
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
