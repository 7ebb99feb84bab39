"""Bytes and JSON of the MTAs to our own types and back; no I/O."""
