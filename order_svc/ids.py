"""Order ids: derived from the customer and the idempotency key, so that a repeated request finds its own order."""

import hashlib
import secrets
import time
import uuid


def order_id(user_id: str, key: str) -> str:
    """Return the id of the order that this customer places with this idempotency key: 32 hexadecimal digits.

    The same arguments always give the same id. With a UUIDv7 as key, the id begins with the key's timestamp (48 bits).
    Such ids sort by time, so inserts into the event table's index stay sequential. The other 80 bits, or all 128 for
    other keys, are a hash of customer and key.
    """
    digest = hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()
    try:
        parsed = uuid.UUID(key)
    except ValueError:
        return digest[:32]
    return parsed.hex[:12] + digest[:20] if parsed.version == 7 else digest[:32]


def new_key() -> str:
    """Make a new idempotency key, for a request without one: a UUIDv7 of the present time."""
    return key_of(time.time_ns() // 1_000_000, secrets.randbits(80))


def key_of(milliseconds: int, bits: int) -> str:
    """Return a UUIDv7 (RFC 9562, 5.7) as text: 48 bits of Unix milliseconds, then the 80 bits of `bits`.

    Six of those 80 bits are overwritten by the version and the variant.
    """
    value = milliseconds << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
