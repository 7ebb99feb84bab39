"""The control plane: holds the state of the cluster, renders it, keeps the locks."""

__version__ = "0.1.0"
