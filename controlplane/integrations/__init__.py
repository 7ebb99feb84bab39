"""What the control plane talks to beside its nodes: services of other people."""
