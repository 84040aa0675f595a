"""A second, slow reading of ``docs/evidence-format.md``, which shares no code with the product."""
