"""A mail server for one purpose: it greets, answers EHLO in two lines and takes leave.

Run as a program it listens on 127.0.0.1 port 25. `MODE` in its environment makes it misbehave:
"busy" greets with 421, "silent" accepts and says nothing, "ehlo" refuses EHLO, "long" greets in two
lines.
"""

from __future__ import annotations

import os
import socketserver
import time

GREETINGS = {"busy": b"421 4.3.2 busy\r\n", "long": b"220-wait\r\n220 tiny ESMTP\r\n"}


class Session(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        """Serve until QUIT."""
        mode = os.environ.get("MODE", "")
        if mode == "silent":
            time.sleep(30)
        self.wfile.write(GREETINGS.get(mode, b"220 tiny ESMTP\r\n"))
        for line in self.rfile:
            if line.startswith(b"QUIT"):
                self.wfile.write(b"221 2.0.0 bye\r\n")
                return
            self.wfile.write(b"502 no\r\n" if mode == "ehlo" else b"250-tiny\r\n250 PIPELINING\r\n")


class Server(socketserver.ThreadingTCPServer):
    """Listens at once again after it was stopped."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", 25), Session).serve_forever()
