"""The sources of what browsers load, and what builds them; no part of an installed package."""
