"""Generated for each image: tables of profiles."""

PACK: bytes
