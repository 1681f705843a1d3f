"""Turns commands into records: decider, state cache, unit of work and the one writer. No broker, no HTTP."""
