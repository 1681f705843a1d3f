"""Keeps the products and their stock, and holds stock for the orders.

keeps   Product: price and stock; Reservation: the answer an order got; Addition: the answer about added stock
hears   order.created.pending; point.use.failed, coupon.use.failed, order.canceled
says    product.registered, product.stock.added, product.stock.received, product.stock.held, product.stock.returned,
        product.reserved, product.reserve.failed, product.released, product.reserve.voided
"""
