"""The demonstration that ``make demo`` runs, and what it checks."""
