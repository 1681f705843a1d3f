"""The operators' tools: commands for a running system, from a terminal."""
