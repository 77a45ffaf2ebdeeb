"""Checkpoints on a hub, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from uas_plugin.errors import UASError


def download(name: str, patterns: Sequence[str]) -> Path:
    """The local folder of a repository on a hub, with the files that match ``patterns``.

    Raises:
        UASError: it is no such name, or the hub does not give it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UASError(f"{name}: there is no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # A pattern also matches what lies in sub-folders.
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UASError(f"{name}: no such folder, and the hub does not give it: {reason}") from None
