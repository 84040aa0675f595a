"""The commands, and the only place where components meet."""
