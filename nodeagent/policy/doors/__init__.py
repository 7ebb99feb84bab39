"""Where MTAs come in: thin shells of sockets and timers around codecs and engine."""
