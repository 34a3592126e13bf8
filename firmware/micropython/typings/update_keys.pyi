"""Generated for each image: public keys of updates."""

KEYS: tuple[bytes, ...]
