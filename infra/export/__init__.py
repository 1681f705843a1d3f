"""A service's log, row by row, to a data platform: a process of its own, off the way of the requests.

    log ── row ── in hand ── commit ── mark
     └───── read again from the mark ────┘

The sink knows how far it has got (its mark), nobody else; what lies past it is read again. So each row is sent at least
once, and stands in the result once.
"""
