"""The API's sentences on nodes, VIPs, timings, switchovers and certificates, for the catalogue."""

from __future__ import annotations

from typing import Final

from controlplane.gui.language import N_

CLUSTER_REFUSALS: Final = (
    N_("There is no node %(node)s."),
    N_('"%(value)s" is not a node name: lower-case letters, digits and hyphens, at most 63.'),
    N_('"%(value)s" is not an interface name (letters, digits, at most 15).'),
    N_('"%(value)s" is not a user name.'),
    N_('"%(value)s" is not a name of plain letters and digits.'),
    N_('"%(value)s" is not an address that a host in a network can be reached at.'),
    N_("%(value)s is already used by %(place)s."),
    N_("%(field)s %(value)s is not between %(lowest)s and %(highest)s."),
    N_("%(node)s has the same vrrp_priority %(number)s as %(other)s; give each node its own."),
    N_("%(node)s cannot be master: %(other)s is already."),
    N_(
        "%(node)s is the master, so its vrrp_priority %(number)s must be the highest; another "
        "node has %(highest)s."
    ),
    N_("Only one node can be standalone, or each would hold the VIPs by itself."),
    N_("%(address)s is outside the network %(network)s of %(node)s."),
    N_("%(address)s is no host address of the network %(network)s."),
    N_("The URL has to read https://HOST or https://HOST:PORT."),
    N_('The cluster has an IPv6 address; set inet_protocols to "all".'),
    N_("advert_int_s %(value)s is not a whole number of hundredths of a second."),
    N_("%(field)s (%(value)s) must be smaller than %(limit)s."),
    N_("%(field)s (%(value)s) must be greater than %(limit)s."),
    N_("Input should be a valid number, unable to parse string as a number."),
    N_("Input should be a valid integer, unable to parse string as an integer."),
    N_("%(node)s is not enrolled."),
    N_("%(node)s has never reported."),
    N_("%(node)s was last seen %(seconds)s s ago; it must be up for a switchover."),
    N_("%(node)s is active already."),
    N_("%(node)s is in maintenance; end that first."),
    N_("%(node)s is %(role)s and cannot take over; it must be STANDBY."),
    N_("No node reports that it holds a VIP; there is nothing to hand over."),
    N_("Name the source: %(nodes)s hold VIPs."),
    N_("A switchover from %(source)s to %(destination)s is under way."),
    N_("Withdrawn by %(name)s."),
    N_("%(node)s was never enrolled; it has no queue to adopt."),
    N_("%(holder)s already holds the lease of %(node)s's queue."),
    N_("The certificate is not valid PEM."),
    N_("The private key is not valid PEM."),
    N_("The private key is encrypted; supply it without a passphrase."),
    N_("The private key does not belong to the certificate."),
    N_("The private key belongs to certificate %(number)s; put that one first."),
    N_("The certificate expired on %(day)s."),
    N_("The certificate is not valid before %(day)s."),
    N_("The certificate names no host (subjectAltName); clients refuse it."),
    N_("The certificate is not valid for %(names)s."),
    N_(
        "Certificate %(number)s of the file has not issued the one before it; put the leaf first, "
        "then each issuer in turn."
    ),
    N_("The chain is not complete: add the certificate of %(issuer)s, which issued the last one."),
    N_("No certificate was uploaded."),
)
