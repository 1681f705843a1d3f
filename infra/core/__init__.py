"""Commands become records: decide, cache, unit of work, the one writer. No broker, no HTTP."""
