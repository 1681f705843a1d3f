"""State stays small whatever the history, and what older code recorded is found where it stands.

`history.jsonl` is a history from before answers had streams of their own, as `orders replay` prints one: orders with
every end, charges, coupons that many try, added stock; and some orders that are still open. It never changes.
"""
