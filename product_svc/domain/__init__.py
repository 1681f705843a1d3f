"""Two aggregates: Product keeps one product's stock, Reservation keeps the answer that an order got.

They are separate because a popular product's state must stay small, however many orders it has served.
"""
