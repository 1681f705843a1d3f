"""Product keeps one product's price and stock, Reservation the answer to an order, Addition the one about added stock.

They are separate because a popular product's state must stay small, however many orders and additions it has served.
"""
