"""The wire types of enrolment: how a new node becomes known, by a one-time token."""

from __future__ import annotations

from nodeagent.core.contract import NodeName, Wire


class EnrolRequest(Wire):
    """The first message of a new node: the one-time token and the public halves of its keys."""

    token: str
    node: NodeName
    public_key_pem: str  # Ed25519, SubjectPublicKeyInfo; signs the node's later requests
    ssh_public_key: str  # one authorized_keys line without options
    ssh_host_keys: tuple[str, ...]  # "ssh-ed25519 AAAA..." without host name


class EnrolAnswer(Wire):
    """The node is known from now on."""

    node: NodeName
    instance_id: str
    ca_pem: str  # the control plane's own CA: what the agent trusts from now on
