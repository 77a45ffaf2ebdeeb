"""What results say of a tokenizer that was not trained in their run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Scores = Mapping[str, Any]


def is_pretrained(scores: Scores) -> bool:
    """Whether the tokenizer was loaded, by the content of ``scores.json``."""
    return bool(scores.get("tokenizer", {}).get("pretrained"))


def pretrained_note(scores: Scores) -> str:
    """The line that names the loaded tokenizer, and says which tables are left out and why."""
    facts = scores["tokenizer"]["pretrained"]
    return (
        f"The tokenizer ({facts.get('model') or facts.get('folder')}) was loaded, not trained, and "
        "has no text decoder here. Left out: what the tokenizer's own decoder reads (of real "
        "tokens, of reconstructions and of generated speech), its untrained encoder, and its "
        "ablations."
    )


def pretrained_options(scores: Scores) -> str:
    """Options of ``run.sh`` that choose the loaded tokenizer, each after a blank.

    A folder is written as ``DIR``: results name no place of one machine.
    """
    facts = scores["tokenizer"]["pretrained"]
    options = [
        "tokenizer=pretrained_folder",
        f"tokenizer.pretrained.model={facts.get('model', 'DIR')}",
    ]
    options += [
        f"tokenizer.pretrained.{key}={str(facts[key]).lower()}"
        for key in ("num_codebooks", "flatten")
        if key in facts
    ]
    return "".join(f" {option}" for option in options)
