"""Customers of the endpoint, and the load they make."""

from __future__ import annotations

import json
import random
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PROMPTS = (
    "What does a licence say?",
    "Who keeps the export records?",
    "Describe the shipment.",
    "When must a forwarder ask?",
)


@dataclass(frozen=True)
class Customer:
    """A paying customer and the API key it holds. What it is, only the party registry says."""

    id: str
    key: str = field(repr=False)


def customers_of(keys: Path) -> list[Customer]:
    """The customers in the endpoint's own file of keys."""
    lines = [line.split() for line in keys.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [Customer(holder, key) for key, holder in lines]


class Load:
    """Threads that ask for completions until told to stop, and remember which requests gave them a byte."""

    def __init__(self, url: str, customers: Sequence[Customer], seed: int = 7) -> None:
        self._url = url
        self._customers = customers
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.seen: dict[str, Customer] = {}
        """Trace id of every request of which the client saw any byte."""
        self.sent = 0

    def start(self, requests_each: int | None = None) -> None:
        """Start one thread a customer; each makes ``requests_each`` requests, or goes on until `stop`."""
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._drive, args=(customer, requests_each, random.Random(self._random.random())))
            for customer in self._customers
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait until every thread has made its requests."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Make no more requests, and wait for those under way."""
        self._stop.set()
        self.finish()

    def _drive(self, customer: Customer, requests: int | None, choose: random.Random) -> None:
        made = 0
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._stop.is_set() and (requests is None or made < requests):
                made += 1
                self._ask(client, customer, choose)

    def _ask(self, client: httpx.Client, customer: Customer, choose: random.Random) -> None:
        trace_id = secrets.token_hex(16)
        body = {
            "model": "paperwork-4gram",
            "messages": [{"role": "user", "content": choose.choice(PROMPTS)}],
            "max_tokens": 24,
            "stream": choose.random() < 0.5,
        }
        headers = {
            "authorization": f"Bearer {customer.key}",
            "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-00",
            "content-type": "application/json",
        }
        with self._lock:
            self.sent += 1
        try:
            with client.stream("POST", "/v1/chat/completions", content=json.dumps(body), headers=headers) as answer:
                # The status line is the first byte that a client sees.
                with self._lock:
                    self.seen[trace_id] = customer
                for _ in answer.iter_raw():
                    pass
        except httpx.HTTPError:
            # The endpoint was killed: what the client had seen before is already noted.
            self._stop.wait(0.05)
