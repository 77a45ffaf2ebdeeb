"""Errors that are meant for the user: one line, with the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class UASError(Exception):
    """A mistake in input or configuration. Every command prints it as one line and exits with 2."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


NAMED = 10  # reasons that `left_out_text` gives


def left_out_text(left_out: Sequence[Mapping[str, str]], total: int) -> str:
    """How many of ``total`` cuts were left out, and the reasons of the first ten."""
    shown = "; ".join(row["reason"] for row in left_out[:NAMED])
    more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return f"{len(left_out)} of {total} cuts left out: {shown}{more}"
