"""A tokenizer that is not trained here, exported as the recipe's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from uas_plugin.atomic import atomic_folder, write_json
from uas_plugin.errors import UASError, suggest

PRETRAINED_KEY = "pretrained"
"""Key of ``provenance.json``, ``info.json`` of a dump and ``scores.json``: what was loaded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedOptions:
    """Options ``tokenizer.pretrained`` of ``conf/tokenizer/*.yaml``.

    Attributes:
        model: folder or hub name, as ``load_tokenizer`` takes it.
        num_codebooks: of a codec, from the first on; None for what it gives of itself.
        flatten: give several codebooks as one (:mod:`uas_plugin.tokenizer.flatten`).
    """

    model: str
    num_codebooks: int | None = None
    flatten: bool = False

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Build from a section file.

        Raises:
            UASError: an unknown key (the nearest known one is named), or no model.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in options:
            if key not in known:
                raise UASError(f"tokenizer.pretrained: unknown key '{key}'.{suggest(key, known)}")
        if not isinstance(options.get("model"), str) or not options["model"]:
            raise UASError("tokenizer.pretrained.model must be a folder or a hub name")
        return cls(**options)

    def facts(self) -> dict[str, Any]:
        """What stands beside results: the options, of a folder its name without the path to it."""
        path = Path(self.model)
        source = {"folder": path.resolve().name} if path.is_dir() else {"model": self.model}
        facts: dict[str, Any] = dict(source)
        if self.num_codebooks is not None:
            facts["num_codebooks"] = self.num_codebooks
        if self.flatten:
            facts["flatten"] = True
        return facts


def load_pretrained(options: PretrainedOptions) -> Any:
    """The tokenizer, with one id a frame.

    Raises:
        UASError: it cannot be loaded, has no such number of codebooks, or gives several ids a frame
            without ``flatten``.
    """
    from uas_plugin.tokenizer import flatten, released, transformers_codecs
    from uas_plugin.tokenizer.api import load_tokenizer

    folder, count = released.locate(options.model), options.num_codebooks
    if not transformers_codecs.is_codec(folder):
        if count not in (None, 1):
            raise UASError(f"{options.model} has one codebook, not num_codebooks = {count}")
        return load_tokenizer(folder)
    codec = transformers_codecs.load_codec_tokenizer(folder, num_codebooks=count)
    if codec.num_codebooks > 1 and not (options.flatten or flatten.is_flattened(folder)):
        raise UASError(
            f"{options.model} gives {codec.num_codebooks} ids a frame, but the recipe takes one: "
            "set tokenizer.pretrained.flatten=true, or num_codebooks=1"
        )
    # Also of one codebook: ids are then (T,), as those of our own tokenizers.
    return flatten.FlattenedTokenizer(codec)


def export_pretrained(options: PretrainedOptions, folder: Path) -> None:
    """Write the tokenizer to ``folder`` for ``load_tokenizer``; complete or not at all.

    Raises:
        UASError: as :func:`load_pretrained`.
    """
    from uas_plugin.tokenizer.export import PROVENANCE_NAME
    from uas_plugin.tokenizer.released import read_json

    tokenizer = load_pretrained(options)
    with atomic_folder(folder) as temporary:
        tokenizer.save_pretrained(temporary)
        provenance = read_json(temporary / PROVENANCE_NAME)
        write_json(temporary / PROVENANCE_NAME, {**provenance, PRETRAINED_KEY: options.facts()})


def pretrained_facts(folder: Path) -> dict[str, Any]:
    """``{"pretrained": facts}`` of a folder that :func:`export_pretrained` wrote, else ``{}``."""
    from uas_plugin.tokenizer.export import PROVENANCE_NAME
    from uas_plugin.tokenizer.released import read_json

    path = folder / PROVENANCE_NAME
    facts = read_json(path).get(PRETRAINED_KEY) if path.is_file() else None
    return {PRETRAINED_KEY: facts} if isinstance(facts, dict) else {}
