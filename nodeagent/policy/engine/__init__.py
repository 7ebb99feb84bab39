"""Pure: a session, an envelope, a message and a compiled policy in; a decision out."""
