"""What alerts can be refused with, and how a notification went, for the catalogue."""

from __future__ import annotations

from typing import Final

from controlplane.gui.language import N_

REFUSALS: Final = (
    N_("There is no alert channel %(name)s."),
    N_("There is no alert rule %(name)s."),
    N_("There are %(count)s alert channels already; remove one first."),
    N_("A new channel needs a URL."),
    N_("This channel has no URL yet; give it one first."),
    N_("The channel %(name)s has no URL here, so it is switched off; give it one."),
    N_("It has %(count)s channels, more than the %(most)s that there can be."),
    N_("The alerts were changed since you looked; look at the preview again."),
    N_("Somebody changed the alerts meanwhile; look at the preview again."),
    N_("This is no URL."),
    N_("This is no URL: it is too long, or has spaces or control characters."),
    N_("The URL must begin with one of: %(names)s."),
    N_('The option "%(name)s" cannot be used here.'),
    N_("Apprise cannot use this URL; see its documentation of the service."),
    N_("%(host)s is a link-local or reserved address; alerts do not go there."),
    N_("The host %(host)s has no address."),
    N_("Too many notifications are under way; try again in a minute."),
    N_("There was no answer in time."),
    N_("Sending broke off; the control plane's log says more."),
    N_("It could not be reached, or did not take the message."),
    N_("It answered with the status %(status)s."),
    N_("The message was taken."),
)
