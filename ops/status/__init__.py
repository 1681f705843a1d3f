"""`orders status`: one screen that says whether all is well, what is wrong, and what to do about it.

It asks each service for `/readyz` and `/metrics`, and nothing else: it works without the broker, and while at least one
service answers.
"""
