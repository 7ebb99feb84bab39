"""What `docs/generate.py` writes the reference with."""
