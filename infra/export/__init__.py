"""Exports a service's log, row by row, to a data platform. An export is its own process: no request waits for it.

    log ── row ── in hand ── commit ── position
     └───── read again from the position ────┘

Only the sink knows how far the export has got (the sink's position). A new process reads the log again after that
position. So the export sends each row at least once, and the sink counts it once.

Read in this order: rows (what a row is), sink (the interface), exporter (the loop), process (run, status, reconcile),
errors.
"""
