"""`just demo`: systems of their own, on which orders are placed, printed and checked.

Without an option: one order that succeeds and one for each step's refusal. With `--crash`: hundreds of orders,
while a service is killed and the broker's store is deleted; then an audit.
"""
