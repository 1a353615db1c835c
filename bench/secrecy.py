"""Secrets never leave: every error, log and command line that is shown or stored goes through ``hide``.

Secret are the values of environment variables that are named like a secret, and what stands before the @ of a URL,
wherever such a URL is: in a variable, in an argument, in the text itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from urllib.parse import quote, unquote

MASK = "***"
SHORTEST = 6
"""Characters of a value that is hidden wherever it stands; a shorter one would hide ordinary words."""
SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|credential|cookie|signature|api_?key|access_?key|private_?key|_key$|_pwd$|_dsn$"
    r"|_auth$|^auth",
    re.IGNORECASE,
)
USERINFO = re.compile(r"(?<=://)([^\s/@'\"]+)(?=@)")
"""Of a URL: ``user``, ``user:password`` or a token."""


def hide(text: str) -> str:
    """The text without secrets. Of ``user:password`` in a URL the user stays."""
    for value in sorted(_values(), key=len, reverse=True):
        text = text.replace(value, MASK)
    return USERINFO.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    user, separator, _ = found.group(1).partition(":")
    return f"{user}:{MASK}" if separator else MASK


def _values() -> set[str]:
    """What is secret in the environment and the arguments, as it is and as it stands in a URL."""
    secrets = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    for text in (*os.environ.values(), *sys.argv):
        secrets |= set(_of_urls(text))
    forms = {form for value in secrets for form in (value, quote(value, safe=""), unquote(value), repr(value)[1:-1])}
    return {form for form in forms if len(form) >= SHORTEST}


def _of_urls(text: str) -> Iterator[str]:
    """Passwords, and tokens without a user."""
    for found in USERINFO.finditer(text):
        user, separator, password = found.group(1).partition(":")
        yield password if separator else user
