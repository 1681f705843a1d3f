"""`orders find`: finds orders by user, product, coupon, end, reason and time, in order_svc's log.

The log is the source: order_svc decides from it, the audit proves it, and it can be read while everything is down. The
order list, a read model that anybody may delete, is only an index into it: it says which orders a user has, and which
had not ended. Each is then read from the log, and so is all that the list has not read yet.
"""
