"""Three aggregates: Account keeps a customer's balance, Use the answer to an order, Charge the answer to a charge.

They are separate because the state of a busy customer's account must stay small, however many orders it has served.
"""
