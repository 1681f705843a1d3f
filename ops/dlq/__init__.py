"""`orders dlq ls | show | redrive | drop`: list, show, redrive or drop dead letters.

Dead letters are messages that a service could not handle, and later messages of the same key, which wait behind them.
"""
