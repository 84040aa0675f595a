"""A sound pack of one rule, as an officer might write it."""

HOUSE = b"""pack: house
version: "1"
title: Rules of the house
source: the board
rules:
  - id: house/no-access
    title: Nobody uses a model
    citations: ["board 2026-11-20"]
    authority: company_policy
    status: verified
    effective: {from: 2020-01-01}
    when: [act == 'access']
    outcome: prohibited
    flag: true
    explanation: "the board forbids it"
"""
