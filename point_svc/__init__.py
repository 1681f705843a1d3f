"""Keeps the customers' points, and takes an order's points from them.

keeps   Account: a customer's balance, and the answer each order got
hears   product.reserved; coupon.use.failed, order.canceled
says    point.charged, point.used, point.use.failed, point.refunded, point.use.voided
"""
