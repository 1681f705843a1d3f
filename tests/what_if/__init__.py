"""`orders what-if`, and a recorded history that must give the same decisions for ever.

`history.jsonl` is what a real system left. `python -m tests.what_if.record tests/what_if/history.jsonl` recorded it and
records a new one: half a minute of shopping, as `record.py` has it, and then every message of the stream, a line each,
as `orders replay` prints them. A fact or a reaction that is new wants a new recording that has it. A decision that is
not the recorded one wants a reason: the services that run today have such histories.
"""
