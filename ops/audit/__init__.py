"""`orders audit`: the ten invariants over a running system, from both copies of its history.

A cut that has with every fact its cause is read from the services' logs and from the stream, in one pass that remembers
little; what an audit without findings knew is kept, and the next one goes on from there.
"""
