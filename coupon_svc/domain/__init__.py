"""Two aggregates: Coupon keeps what a coupon is and which order uses it, Use keeps coupon_svc's answer to one order.

They are separate because the state of a coupon must stay small, however many orders have tried it.
"""
