"""`orders archive`: sealed generations of the stream become files, are proven, and only then leave the broker.

`readiness` says why a generation has to stay in the broker; `open_orders` finds the orders that keep it there.
`archiving` writes, proves and deletes. `proof` compares the files, read back, with the stream and the services' logs.
`copying` copies the archive to another place.
"""
