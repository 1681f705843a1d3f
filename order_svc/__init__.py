"""Accepts orders, and says how each of them ended.

keeps   Order: what the customer ordered, until when, and how it ended
hears   coupon.used; product.reserve.failed, point.use.failed, coupon.use.failed
says    order.created.pending, order.confirmed, order.canceled
"""
