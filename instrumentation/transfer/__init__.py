"""Hooks in code that moves model artifacts: one ``model.transfer`` per transfer."""
