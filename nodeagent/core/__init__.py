"""The pure part of the agent: no I/O and no clock in here."""
