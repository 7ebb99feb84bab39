"""The pages of the GUI on port 8443: rendered here, without scripts, assets of our own only."""
