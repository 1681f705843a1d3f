"""Keeps the customers' coupons, and lets an order use one.

keeps   Coupon: whose it is, what it is worth, which order uses it; Couponuse: the answer an order got
hears   point.used; order.canceled
says    coupon.issued, coupon.held, coupon.returned,
        coupon.used, coupon.use.failed, coupon.restored, coupon.use.voided
"""
