"""Screening: lists of restricted parties, and whether a name is one of theirs.

`lists` keeps what `importer` read; `name_form` makes names comparable, `index` finds the few listed names worth a look,
`name_score` compares two names with care, and `screener` puts it together as hits. `evaluation` scores labelled pairs.
"""
