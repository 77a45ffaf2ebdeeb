"""Errors that are meant for the user: one line, with the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UASError(Exception):
    """A mistake in input or configuration. Every command prints it as one line and exits with 2."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
