"""The API's sentences that pages show, for the catalogue: what is listed here is translated.

A value stands as `%(name)s`; the sentence is found again by its words. Whoever builds a page adds
the sentences that its forms can be refused with.
"""

from __future__ import annotations

from typing import Final

from controlplane.gui.language import N_

REFUSALS: Final = (
    N_("User name or password is wrong."),
    N_("This user has a second factor: send a code of the authenticator app, too."),
    N_("The code is wrong; codes of an authenticator app change every half minute."),
    N_("The role %(role)s may not do this; it needs %(needed)s."),
    N_("An API token cannot do this; log in."),
    N_("The session is unknown or has ended; log in again."),
    N_("The current password is wrong."),
    N_("The new password must differ from the old one."),
    N_("The two new passwords differ."),
    N_("The password must have at least %(number)s characters."),
    N_("The password must have at most %(number)s characters."),
    N_("The password must have at least %(number)s different characters."),
    N_("The password must not consist of digits only."),
    N_("The password is a well-known word with some digits; choose another."),
    N_("Too many failed logins; try again in %(seconds)s seconds."),
    N_("Too many people log in at this moment; try again."),
    N_("Fill in every field of the form."),
    N_("Fill in this field."),
    N_("This value is too long."),
    N_("The request's body is larger than %(size)s, the most that this call takes."),
    N_("This form cannot be read."),
    N_("Some values cannot be used; nothing was changed."),
    N_("This request came from a page of another site."),
    N_("This form is too old or was not made for you; open the page again."),
    N_("The database did not answer in time; try again."),
    N_("The database refused: %(reason)s."),
    N_("Somebody changed the same thing at the same time; read it again."),
    N_("An internal error; the control plane's log says more."),
    N_("There is nothing at %(path)s."),
    N_("The request is not valid; nothing was changed: %(fields)s."),
)
