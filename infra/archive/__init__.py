"""Sealed generations of the stream as files: manifests, compressed lines, an index by key, and how they are read."""
