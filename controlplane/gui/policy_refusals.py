"""What entries and settings of the mail policy can be refused with, for the catalogue."""

from __future__ import annotations

from typing import Final

from controlplane.gui.language import N_

VALUES: Final = (
    N_("The value is empty; an IP address, a network, a domain or an address is needed."),
    N_('"%(value)s" starts with a dot; write "*.example.com" for all subdomains.'),
    N_('"%(value)s" is longer than %(number)s characters.'),
    N_('"%(value)s" has no "@".'),
    N_('"%(value)s" has no domain behind the "@".'),
    N_('"%(value)s" has a zone, which means something on one host only.'),
    N_('"%(value)s" is not a network such as 192.0.2.0/24 or 2001:db8::/32.'),
    N_('"%(value)s" is not a valid network such as 192.0.2.0/24 or 2001:db8::/32.'),
    N_('"%(value)s" is not a valid IP address.'),
    N_('"%(value)s" has nothing before the "@"; write "*@example.com" for all of a domain.'),
    N_('"%(value)s" would be read as all addresses of its domain.'),
    N_('"%(value)s" has nothing before the "@".'),
    N_('"%(value)s" has a character in its local part that no address can have.'),
    N_('"%(value)s" has a local part that would have to stand in quotes.'),
    N_('"%(value)s" has a local part of more than %(number)s bytes.'),
    N_('"%(value)s" has a domain in brackets that is no IP address.'),
    N_('"%(value)s" has a domain name that is too long.'),
    N_('"%(value)s" has no domain name.'),
    N_('"%(value)s" has no valid domain name.'),
    N_('"%(value)s" has a domain name that ends in a number, so it is none.'),
    N_('"%(value)s" has a domain name that IDNA does not allow.'),
    N_('"%(value)s" has to be written as "%(kept)s".'),
    N_('"%(value)s" is in a domain that only the relay itself writes to.'),
    N_('"%(value)s" is no single address.'),
    N_('"%(value)s" is no address; write "*@%(same)s" for all of a domain.'),
    N_("The address is empty."),
    N_("The address is longer than 320 characters."),
    N_("The name has a character that cannot be shown."),
    N_("A rate can put mail off or reject it, nothing else."),
    N_("A time between %(first)s and %(last)s is needed."),
)
WORDS: Final = (
    N_("The word has no visible letter."),
    N_("The regular expression matches the empty text, so it would match every mail."),
    N_("The regular expression is too large; use smaller repetitions or fewer classes."),
    N_("The regular expression is too large; use smaller repetitions."),
    N_("The regular expression is not understood: %(reason)s."),
    N_(
        "Some texts would take too long to search with this regular expression; shorten repetitions"
        ' such as ".{0,40}" behind something that can begin anywhere, or write ".*".'
    ),
    N_(
        "The regular expression cannot be used: look-ahead, look-behind and other extensions of"
        " Perl are not possible in a search of bounded time."
    ),
    N_(
        "The regular expression cannot be used: a repetition is too large, or its bounds are the"
        " wrong way round."
    ),
    N_(
        "The regular expression cannot be used: it has an escape that does not exist here; back"
        " references are not possible in a search of bounded time."
    ),
    N_(
        "The regular expression cannot be used: a class in [ ] has a range or a name that does not"
        " exist."
    ),
    N_("The regular expression cannot be used: a class that begins with [ has no ]."),
    N_("The regular expression cannot be used: a group that begins with ( has no )."),
    N_("The regular expression cannot be used: a ) closes no group; write \\) for the character."),
    N_(
        "The regular expression cannot be used: it ends with a backslash; write two for the"
        " character."
    ),
    N_("The regular expression cannot be used: a repetition has nothing before it to repeat."),
    N_(
        "The regular expression cannot be used: a repetition is repeated; put the first one into a"
        " group."
    ),
    N_(
        "The regular expression cannot be used: the name of a group cannot be used; ( ) without a"
        " name will do."
    ),
    N_("The regular expression cannot be used: it is too large."),
    N_("The regular expression cannot be used: it is not UTF-8."),
)
ENTRIES: Final = (
    N_('The entry of the blocklist "%(value)s" is there already, as number %(number)s.'),
    N_('The entry of the allowlist "%(value)s" is there already, as number %(number)s.'),
    N_('The bad word "%(value)s" is there already, as number %(number)s.'),
    N_('The rate limit "%(value)s" is there already, as number %(number)s.'),
    N_('The category "%(value)s" is there already, as number %(number)s.'),
    N_('The subscription "%(value)s" is there already, as number %(number)s.'),
    N_("There is no list entry %(number)s."),
    N_("There is no entry of the blocklist %(number)s."),
    N_("There is no entry of the allowlist %(number)s."),
    N_("There is no bad word %(number)s."),
    N_("There is no rate limit %(number)s."),
    N_("There is no category %(number)s."),
    N_("There is no subscription %(number)s."),
    N_("The category was deleted meanwhile."),
    N_("A time with its zone is needed, such as 2027-01-31T14:30:00Z."),
    N_("Section %(number)s of %(kind)s cannot be packed: %(reason)s."),
    N_("This is no `next` of an earlier page."),
    N_("There is no such decision in the log; it may be older than what is kept."),
    N_("%(node)s has no message %(id)s in quarantine."),
)
IMPORTS: Final = (
    N_("%(wrong)s of %(all)s entry cannot be used; nothing was changed."),
    N_("%(wrong)s of %(all)s entries cannot be used; nothing was changed."),
    N_("The import stood still too long; nothing was changed, try again."),
    N_("Another file is being imported into this list; try again in a minute."),
    N_("A file is being imported into the mail policy; try again in a minute."),
    N_("What follows is no JSON object, or does not end."),
    N_("The array has ended, but the file goes on."),
    N_("What follows is not written in UTF-8."),
    N_('There is no column "%(name)s"; the columns are %(columns)s.'),
    N_("This line has %(count)s cells, the first line %(columns)s."),
    N_("This line is no CSV: %(reason)s."),
    N_("Unexpected end of data."),
    N_("%(name)s is empty."),
    N_("%(name)s has to be one of %(words)s or %(last)s."),
    N_("%(name)s cannot be used: %(reason)s."),
)
SETTINGS: Final = (
    N_("Nothing was changed: %(fields)s."),
    N_("A name is needed."),
    N_("More than %(number)s extensions cannot be blocked."),
    N_('"%(value)s" cannot be used: an extension has small letters and digits and no dot.'),
    N_("More than %(number)s cannot be exempt."),
    N_(
        "The address has to be an IP address that every node has, such as 127.0.0.1, 0.0.0.0 or ::."
    ),
    N_("The user name has printable ASCII characters and no colon."),
    N_("The HTTP door needs credentials first."),
    N_("The URL has to read https://HOST or https://HOST/PATH."),
    N_("It cannot be above the score from which mail is refused."),
    N_(
        "Mail to categories goes to the subscribers at DATA; while there are categories, do not"
        " leave it out."
    ),
    N_(
        "Mail to categories goes to the subscribers at DATA, a stage that the settings leave out;"
        " add it there first."
    ),
    N_("Say the %(field)s that goes with it."),
    N_("The name cannot be used; nothing was changed."),
    N_("This name cannot be used."),
    N_("This is the HTTP door's last credential; switch the door off first."),
    N_("There is no such group of settings."),
    N_("The policy cannot be compiled: %(reason)s."),
)
FIELDS: Final = (
    N_("Field required."),
    N_("String should have at least %(number)s character."),
    N_("String should have at most %(number)s characters."),
    N_("Input should be greater than %(number)s."),
    N_("Input should be greater than or equal to %(number)s."),
    N_("Input should be less than %(number)s."),
    N_("Input should be less than or equal to %(number)s."),
    N_("Input should be a finite number."),
    N_("Value is not a valid IPv4 or IPv6 address."),
    N_("Input should be '%(first)s' or '%(last)s'."),
    N_("Input should be a valid string."),
    N_("Input should be a valid integer."),
    N_("Input should be a valid number."),
    N_("Input should be a valid boolean."),
    N_("Input should be a valid boolean, unable to interpret input."),
    N_("Extra inputs are not permitted."),
    N_("String should match pattern '%(pattern)s'."),
    N_("Value should have at most %(number)s items after validation, not %(count)s."),
    N_("Tuple should have at most %(number)s items after validation, not %(count)s."),
    N_("List should have at most %(number)s items after validation, not %(count)s."),
    N_("The body cannot be read; nothing was changed."),
)
"""What fields of any form are refused with before the sentences above are looked for."""
TRIALS: Final = (
    N_("At CONNECT only the HTTP hook asks about 127.0.0.1: keepalived checks Postfix from there."),
    N_("A node looks up nothing here: the client is trusted, has logged in, or has no address."),
    N_("%(check)s is switched off, so what was assumed of it does not count."),
    N_("%(check)s is switched on, but no DNS is asked here: assume a result to try its rules."),
    N_("Bad word %(number)s is left out: %(reason)s."),
    N_("%(count)s bad phrases are left out: all together are too long."),
    N_("%(count)s regular expressions are left out: all together are too much."),
    N_("%(count)s more problems with bad words."),
)
