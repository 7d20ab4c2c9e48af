"""Addresses in messages, without the names, passwords and keys that stand in them."""

import re

# What stands between `://` and `@`: USER:PASSWORD or TOKEN. A password may hold a slash, since
# SQLAlchemy takes such a one, so `://a:b/c@d` has the password `b/c`; no host `a` is seen there.
# Only behind a user with an `@`, `://me@host:22/a@b`, are digits a port.
CREDENTIALS = re.compile(r"(?<=://)(?:(?:[^/\s:@]*:|[^/\s:]*:(?!\d+/))\S*|[^/\s]+)@")


def masked(text: str) -> str:
    """The text with the user names, passwords and query strings of its addresses hidden."""
    text = CREDENTIALS.sub("***@", text)
    return re.sub(r"(://[^\s?]*\?)[^\s'\")]+", r"\1***", text)


def without_secrets(url: str) -> str:
    """A URL without user, password and query, in which signatures stand."""
    return CREDENTIALS.sub("", url).partition("?")[0]
