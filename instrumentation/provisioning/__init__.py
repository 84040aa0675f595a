"""Hooks in code that provisions accelerators: ``accelerator.provision``."""
