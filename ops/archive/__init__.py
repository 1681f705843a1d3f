"""`orders archive`: closed generations of the stream become files, are proven, and only then leave the broker.

`readiness` says why a generation has to stay, `open_orders` of which orders. `archiving` writes, proves and deletes.
`proof` compares the files, read back, with the stream and the services' logs.
"""
