"""Two aggregates: Product keeps one product's price and stock, Reservation keeps product_svc's answer to one order.

They are separate because a popular product's state must stay small, however many orders it has served.
"""
