"""`orders status`: one screen that says whether all is well, what is wrong, and what to do about it.

It asks each service for `/readyz` and `/metrics`, and never the broker: it works while at least one service answers.
If orders wait for too long it also asks order_svc about them. Without `--watch` it asks a running dashboard for its
rates. It looks for processes on this machine: those of services that do not answer, and the bundled broker's.
"""
