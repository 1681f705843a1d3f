"""Order ids are derived from who ordered and the idempotency key, so a repeated request meets its own order."""

import hashlib
import secrets
import time
import uuid


def order_id(user_id: str, key: str) -> str:
    """The order that this customer's key stands for: 32 hexadecimal digits, the same for ever.

    A key that is a UUIDv7 gives its timestamp (48 bits) to the front of the id: ids then grow with time, and the event
    table's index grows at its end instead of everywhere. The other 80 bits, or all 128, are a hash.
    """
    digest = hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()
    try:
        parsed = uuid.UUID(key)
    except ValueError:
        return digest[:32]
    return parsed.hex[:12] + digest[:20] if parsed.version == 7 else digest[:32]


def new_key() -> str:
    """A key for a request that has none."""
    return key_of(time.time_ns() // 1_000_000, secrets.randbits(80))


def key_of(milliseconds: int, bits: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then 80 others, of which version and variant take six."""
    value = milliseconds << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
