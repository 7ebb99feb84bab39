"""A whole cluster on one machine: hosts as namespaces, real daemons, faults on demand."""
