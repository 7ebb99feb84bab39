"""`relay-lab up` and `down`: from nothing to a pair that is ready, and back to nothing."""

from __future__ import annotations

from typing import Final

from lab import cgroups, cluster, hosts, network, preflight, provision, storage
from lab.layout import HOSTS, NODES
from lab.progress import step
from lab.settings import Settings

_READY_LIMIT_S: Final = 180.0


def up(settings: Settings) -> None:
    """Bring up a new lab; whatever an earlier run left is cleared away first."""
    preflight.check(settings)
    with step("clearing what an earlier run left"):
        down()
    storage.prepare()
    settings.save()
    with step("making the network"):
        network.create()
    with step(f"starting {len(HOSTS)} hosts"):
        for host in HOSTS.values():
            hosts.boot(host)
    plane = provision.ControlPlane()
    with step("waiting for the control plane"):
        plane.wait_until_up()
    with step("describing the cluster over the REST API"):
        settings = provision.first_login(plane, settings)
        settings.save()
        provision.describe_cluster(plane, settings)
    for name in NODES:
        with step(f"enrolling {name}"):
            provision.enrol(plane, name)
    with step("waiting until the pair is ready"):
        cluster.wait_for("ready", _READY_LIMIT_S)


def down() -> None:
    """Remove every trace: processes, namespaces, cables, control groups, mounts and disks."""
    preflight.require_root()
    cgroups.remove_all()
    network.remove()
    storage.remove()
