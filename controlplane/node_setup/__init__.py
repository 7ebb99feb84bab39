"""Sets a relay host up over SSH: the connection, what is done on the host, and the run of it."""
