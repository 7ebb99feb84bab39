"""A host to be set up: a real sshd and shell, stand-ins for what would change this machine.

What is asked of apt-get, systemctl and the like is written down; files and directories go below a
directory of the test's own. `relay-agent` is the real one with a state directory of its own.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from controlplane.node_setup.recipe import PACKAGES, Recipe
from tests.fakes.loopback_sshd import REPOSITORY, LoopbackSshd

RECORD = """#!/bin/sh
echo "${{0##*/}} $*" >> {root}/asked
"""
STAND_INS = {
    "apt-get": 'echo "Reading package lists..."; exit $(cat {root}/apt-code 2>/dev/null || echo 0)',
    "debconf-set-selections": "cat >> {root}/debconf",
    "systemctl": "",
    "dpkg-query": "cat {root}/packages",
    "cat": 'if [ "$1" = /etc/os-release ]; then exec /bin/cat {root}/os-release; fi\n'
    'exec /bin/cat "$@"',
    "id": "/bin/cat {root}/uid",
    "sudo": 'if [ -e {root}/sudo-asks ]; then echo "sudo: a password is required"; exit 1; fi\n'
    'shift; exec "$@"',
}
BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


class RelayHost(LoopbackSshd):
    """Lets its key log in to a shell whose PATH begins with the stand-ins."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.bin = root / "bin"
        self.bin.mkdir()
        for name, body in STAND_INS.items():
            record = "#!/bin/sh\n" if name == "cat" else RECORD  # shells read files with it
            self._script(self.bin / name, (record + body + "\n").format(root=root))
        config = root / "sshd_config"
        path = f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin"
        config.write_text(f"{config.read_text()}SetEnv PATH={path} HOME={root}\n")
        (root / "os-release").write_text(BOOKWORM)
        (root / "uid").write_text("0\n")
        self.has_packages(*PACKAGES)
        self.recipe = Recipe(
            prefix=str(root / "opt"),
            unit_directory=str(root / "units"),
            spool=str(root / "spool/relay"),
            queue=str(root / "spool/postfix"),
        )
        (root / "spool/postfix").mkdir(parents=True)
        self.install_agent()

    def allow(self) -> None:
        """Write authorized_keys: a login."""
        shutil.copy(self.root / "id.pub", self.root / "authorized_keys")

    def has_packages(self, *names: str) -> None:
        """Have dpkg-query show these as installed."""
        lines = [f"{name} installed" for name in names]
        (self.root / "packages").write_text("\n".join([*lines, "other not-installed", ""]))

    def install_agent(self) -> None:
        """Put the real relay-agent where the recipe expects it."""
        environment = f"PYTHONPATH={REPOSITORY} RELAY_AGENT_STATE_DIRECTORY={self.root}/state"
        command = "from nodeagent.cli import main; main()"
        agent = Path(self.recipe.agent)
        agent.parent.mkdir(parents=True)
        self._script(
            agent, f"#!/bin/sh\nexec env {environment} {sys.executable} -c '{command}' \"$@\"\n"
        )

    def asked(self) -> list[str]:
        """Return what the stand-ins were asked for."""
        path = self.root / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def private_key(self) -> str:
        """Return the key that is let in."""
        return (self.root / "id").read_text()

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)
