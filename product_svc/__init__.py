"""Keeps the products and their stock, and holds what an order wants of it.

keeps   Product: price and stock; Reservation: what an order was answered
hears   order.created.pending; point.use.failed, coupon.use.failed, order.canceled
says    product.registered, product.stock.added, product.stock.held, product.stock.returned,
        product.reserved, product.reserve.failed, product.released, product.reserve.voided
"""
