"""`relayctl`, the operator's command line: it speaks REST to the control plane and nothing else."""
