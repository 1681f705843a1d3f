"""Exports a service's log, row by row, to a data platform. It is a process of its own: no request waits for it.

    log ── row ── in hand ── commit ── position
     └───── read again from the position ────┘

Only the sink knows how far the export has got (its position). Rows behind that position are read again. So the export
sends each row at least once, and the dataset contains it once.

To read: rows (what a row is), sink (the port), exporter (the loop), process (run, status, reconcile), errors.
"""
