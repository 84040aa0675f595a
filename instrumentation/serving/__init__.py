"""Hooks in model-serving code: one ``model.access`` per request."""
