"""`orders audit` checks the ten invariants on a running system, by the services' logs, EVENTS and services' answers.

It reads both copies of history, logs and EVENTS, up to a cut that contains the cause of every fact; memory does not
grow with history. An audit with the verdict `good` saves a checkpoint, from which the next one continues.
"""
