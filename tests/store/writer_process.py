"""Seals batches of 300 leaves into a store over HTTP, one for each line of standard input.

Says ``encoded`` before it inserts and ``sealed N`` or ``fenced`` after, and ends when fenced. The arguments are URL,
token and the mark of its leaves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from sealed_batches import LOG, sealed

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced


def main() -> None:
    url, token, mark = sys.argv[1:]
    parts = urlsplit(url)
    store = ClickHouseStore.http(host=parts.hostname, port=parts.port, username="writer", password=token)
    first = store.next_leaf(LOG)
    while True:
        batch = sealed(first, 299, salt=mark)
        print("encoded", flush=True)
        if not sys.stdin.readline():
            return
        try:
            store.append_batch(batch)
        except Fenced as error:
            print(f"fenced: {error}", flush=True)
            sys.exit(1)
        first += 300
        print(f"sealed {first}", flush=True)


main()
