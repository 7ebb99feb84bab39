"""The node agent: pushes, adopts and guards the queue of one mail relay host."""

__version__ = "0.1.0"
