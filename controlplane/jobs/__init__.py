"""Scheduled work of one control plane process."""
