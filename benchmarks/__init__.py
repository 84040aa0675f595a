"""What the product costs, measured. ``python -m benchmarks.run`` runs all; figures go to ``docs/benchmarks.md``."""
