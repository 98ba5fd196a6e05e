"""Signatures and keys; every primitive is `cryptography`'s."""
