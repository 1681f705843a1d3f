"""Who asks: verifies callers' tokens (JWT) with the issuer's public keys (JWKS)."""
