"""Commands with which people inspect and operate the system, from a terminal."""
