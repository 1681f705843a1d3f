"""Two aggregates: Product keeps one product's stock, Reservation remembers what an order was answered.

Apart, because a hot product's state must stay small however many orders it has served.
"""
