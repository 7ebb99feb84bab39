"""The pages of the GUI on port 8443: rendered here, with scripts and styles of our own only."""
