"""`orders audit`: the ten invariants over a running system, from both copies of its history.

The services' logs and the stream are read up to a cut that contains the cause of every fact, in one pass of little
memory. An audit without findings saves what it knew, and the next one continues from there.
"""
