"""Keeps the customers' points, and takes an order's points from them.

keeps   Account: a customer's balance; Pointuse: the answer an order got; Charge: the answer a charge got
hears   product.reserved; coupon.use.failed, order.canceled
says    point.charged, point.deposited, point.debited, point.credited,
        point.used, point.use.failed, point.refunded, point.use.voided
"""
