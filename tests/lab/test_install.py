"""What lab/install.sh calls, leaves alone and says on machines that lack something.

It runs as it is, with stand-ins for the programs that would change this machine, and with an empty
/usr/sbin in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
POLICY = "/usr/sbin/policy-rc.d"
MARK = "# Made by lab/install.sh, which removes it again."
STAND_INS = {
    "npm": "true",
    "id": 'echo "$MY_UID"',
    "dpkg-query": 'case " $MISSING " in *" $4 "*) exit 1;; *) printf installed;; esac',
    "debconf-set-selections": 'echo "debconf $(cat)" >>"$CALLS"',
    "systemctl": 'echo "systemctl $*" >>"$CALLS"',
    "apt-get": """
        echo "apt-get $3 $(test -e /usr/sbin/policy-rc.d && echo quiet)" >>"$CALLS"
        case "$3 $OFFLINE" in
            "update yes") echo "W: Failed to fetch the lists";;
            "install yes") echo "E: Unable to locate package swaks"; exit 100;;
        esac""",
}

BUILD = """
    [ "$3" = --check ] && exit "${STALE:-0}"
    echo "build" >>"$CALLS"
    [ -z "$OFFLINE" ] || { echo "ERROR: npm cannot get the pinned packages"; exit 1; }"""


@dataclass
class Clone:
    """A clone with a virtual environment that is up to date, on a machine made of stand-ins."""

    root: Path
    calls: list[str] = field(default_factory=list)

    def install(
        self, *packages: str, before: str = "true", **machine: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the script; `before` first, in the same namespace; `machine`: MISSING, OFFLINE."""
        calls = self.root.parent / "calls"
        calls.write_text("")
        empty = "mount -t tmpfs none /usr/sbin"
        inside = f'{empty} && {before} && "$0" "$@"; code=$?; ls {POLICY}; exit $code'
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                inside,
                str(self.root / "lab/install.sh"),
                *packages,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": f"{self.root.parent / 'bin'}:/usr/bin:/bin",
                "CALLS": str(calls),
                "MY_UID": "0",
                **machine,
            },
        )
        self.calls = calls.read_text().splitlines()
        return done

    def sentence(self, **machine: str) -> str:
        """Run it where it must fail, and give the last line that it says."""
        done = self.install(**machine)
        assert done.returncode == 1
        said = [line for line in done.stderr.splitlines() if not line.startswith("ls: ")]
        return said[-1]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Give a clone that lacks nothing yet."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount over /usr/sbin")
    root = tmp_path / "clone"
    for name in ("lab/install.sh", "pyproject.toml", "constraints.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    script(root / ".venv/bin/relay-lab", "true")
    script(root / ".venv/bin/pip", f'# {root}/.venv/\necho "pip $1" >>"$CALLS"; $PIP')
    script(root / ".venv/bin/python", BUILD)
    wanted = subprocess.run(
        "cat pyproject.toml constraints.txt | sha256sum",
        shell=True,
        cwd=root,
        capture_output=True,
        check=True,
    )
    (root / ".venv/installed.sha256").write_bytes(wanted.stdout)
    for name, text in STAND_INS.items():
        script(tmp_path / "bin" / name, text)
    return Clone(root)


def script(path: Path, text: str) -> None:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_with_everything_there_it_does_and_says_nothing(clone: Clone) -> None:
    """`make demo` a second time waits for no network."""
    done = clone.install(OFFLINE="yes")
    assert (done.returncode, done.stdout, clone.calls) == (0, "", [])
    assert [line for line in done.stderr.splitlines() if not line.startswith("ls: ")] == []


def test_lists_are_read_anew_before_packages_are_installed(clone: Clone) -> None:
    """Old lists name versions that the mirrors have no longer."""
    assert clone.install(MISSING="swaks").returncode == 0
    assert [call.split()[1] for call in clone.calls if "apt-get" in call] == ["update", "install"]


def test_packages_that_are_named_are_installed_as_well(clone: Clone) -> None:
    """The benchmarks need what is compared with; nothing else does."""
    done = clone.install("rspamd", MISSING="rspamd")
    assert "installing Debian packages: rspamd" in done.stderr
    assert "apt-get install quiet" in clone.calls
    assert "systemctl disable rspamd" in clone.calls
    assert clone.install(MISSING="rspamd").returncode == 0
    assert clone.calls == []


def test_an_ordinary_user_is_told_what_is_missing(clone: Clone) -> None:
    """Nothing is tried that only root may do."""
    assert clone.sentence(MISSING="swaks rsync", MY_UID="1000") == (
        "install: Debian packages are missing (rsync swaks): run this as root."
    )
    assert clone.calls == []


def test_without_a_network_one_sentence_names_packages_and_reason(clone: Clone) -> None:
    """The whole output of apt-get is kept for who wants it, and nothing else is left."""
    said = clone.sentence(MISSING="swaks", OFFLINE="yes")
    assert said.startswith(
        "install: These Debian 12 packages cannot be had: swaks. Check the network and"
        " /etc/apt/sources.list; apt-get says: E: Unable to locate package swaks (all of it: "
    )
    log = Path(said.rpartition(": ")[2].rstrip(")"))
    assert "Failed to fetch the lists" in log.read_text()
    log.unlink()


def test_what_it_installs_does_not_start_here(clone: Clone) -> None:
    """No daemon now, none at the next boot, and the policy that says so is gone afterwards."""
    done = clone.install(MISSING="openssh-server postfix")
    assert (done.returncode, done.stdout) == (0, "")
    assert "apt-get install quiet" in clone.calls
    assert {"systemctl disable ssh", "systemctl disable postfix"} <= set(clone.calls)
    assert "debconf postfix postfix/main_mailer_type select Local only" in clone.calls


def test_a_postfix_that_was_there_is_left_as_it_is(clone: Clone) -> None:
    """Its map types may be missing on a mail server that runs; that one goes on at each boot."""
    assert clone.install(MISSING="postfix-lmdb libsasl2-modules").returncode == 0
    assert [call for call in clone.calls if not call.startswith("apt-get")] == []


def test_a_policy_of_the_administrators_own_stays(clone: Clone) -> None:
    """Only what this script has made is removed."""
    done = clone.install(MISSING="swaks", before=f"echo mine >{POLICY}")
    assert (done.returncode, done.stdout) == (0, f"{POLICY}\n")


def test_the_policy_that_a_killed_run_left_is_removed(clone: Clone) -> None:
    """Else no daemon of this machine would ever start again at its installation."""
    done = clone.install(before=f"echo '{MARK}' >{POLICY}")
    assert (done.returncode, done.stdout) == (0, "")


def test_changed_requirements_are_installed_once(clone: Clone) -> None:
    """A pull that changes constraints.txt asks pip again, and only the first time."""
    with (clone.root / "constraints.txt").open("a") as constraints:
        constraints.write("# changed\n")
    assert clone.install().returncode == 0
    assert clone.calls == ["pip --version", "pip install"]
    assert clone.install().returncode == 0
    assert clone.calls == []


def test_pip_without_a_network_is_one_sentence_and_is_tried_again(clone: Clone) -> None:
    """A half-made environment does not count as made."""
    (clone.root / ".venv/installed.sha256").unlink()
    script(
        clone.root / ".venv/bin/pip",
        f'# {clone.root}/.venv/\n[ "$1" = --version ] || {{ echo "ERROR: No match"; exit 1; }}',
    )
    said = clone.sentence()
    assert "Python packages cannot be had. Check the network; pip says: ERROR: No match" in said
    assert not (clone.root / ".venv/installed.sha256").exists()
    Path(said.rpartition(": ")[2].rstrip(")")).unlink()


def test_the_files_of_the_gui_are_built_when_they_are_stale(clone: Clone) -> None:
    """A pull that changes them, or npm's lock file, builds them anew, and says so."""
    done = clone.install(STALE="3")
    assert (done.returncode, clone.calls) == (0, ["build"])
    assert "building the GUI's files from npm packages" in done.stderr


def test_the_gui_without_a_network_is_one_sentence(clone: Clone) -> None:
    """The reason of the build stands in it."""
    said = clone.sentence(STALE="3", OFFLINE="yes")
    assert said.startswith(
        "install: The GUI's files cannot be built. Check the network; the build says: "
        "ERROR: npm cannot get the pinned packages"
    )
    Path(said.rpartition(": ")[2].rstrip(")")).unlink()


def test_npm_of_another_source_is_used(clone: Clone) -> None:
    """Debian's npm does not fit beside another Node.js, so it is asked for only without any."""
    assert clone.install(MISSING="npm nodejs").returncode == 0
    assert clone.calls == []
    (clone.root.parent / "bin/npm").unlink()
    hidden = "{ [ ! -e /usr/bin/npm ] || mount --bind /dev/null /usr/bin/npm; }"
    done = clone.install(MISSING="npm nodejs", before=hidden)
    assert "installing Debian packages: nodejs npm" in done.stderr


def test_an_environment_that_was_copied_from_elsewhere_is_made_anew(clone: Clone) -> None:
    """Its programs would run another clone's code."""
    script(clone.root / ".venv/bin/pip", "# /another/clone/.venv/")
    python = clone.root.parent / "bin/python3"
    script(
        python,
        f'[ "$1" = -c ] || {{ echo "python3 $*" >>"$CALLS"; echo "# {clone.root}/.venv/" '
        f'>>"{clone.root}/.venv/bin/pip"; }}',
    )
    assert clone.install(PYTHON=str(python)).returncode == 0
    assert clone.calls == ["python3 -m venv --clear .venv"]


def test_an_interpreter_that_is_too_old_is_not_taken(clone: Clone) -> None:
    """The next one is tried; without any the sentence says what is needed."""
    (clone.root / ".venv/installed.sha256").unlink()
    old = clone.root.parent / "bin/old"
    for python in (old, clone.root.parent / "bin/python3"):
        script(python, '[ "$1" = --version ] && echo "Python 3.9.2"; exit 1')
    sentence = "install: Python 3.11 or newer is needed; this is Python 3.9.2."
    assert clone.sentence(PYTHON=str(old)).startswith(sentence)
    assert clone.calls == []
