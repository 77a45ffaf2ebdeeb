"""Stage 1: a corpus as Lhotse cuts with schema annotations, and Kaldi files beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main
from uas_plugin.errors import UASError, suggest

CORPORA = ("mini", "folder")


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        __doc__ or "",
        "python -m uas_plugin.bin.data_prepare --config exp/mini/conf/data.yaml"
        " --output_dir data/mini",
    )
    add_config_argument(parser)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def build_config(cls: type, options: dict[str, Any]) -> Any:
    """A configuration dataclass from a mapping; null leaves the default.

    Raises:
        UASError: a key is unknown (the nearest known one is named) or a value has a wrong type.
    """
    known = {field.name: field.default for field in dataclasses.fields(cls)}
    for key, value in options.items():
        if key not in known:
            raise UASError(f"data.{key}: unknown key.{suggest(key, known)}")
        default = known[key]
        if isinstance(default, (int, float)) and value is not None:
            good = isinstance(value, (int, float)) and isinstance(value, bool) == isinstance(
                default, bool
            )
            if not good or (isinstance(default, int) and not float(value).is_integer()):
                wanted = "a number" if isinstance(default, float) else f"{type(default).__name__}"
                raise UASError(f"data.{key} must be {wanted}, not {value!r}")
    return cls(**{key: value for key, value in options.items() if value is not None})


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the corpus that the configuration names."""
    args = get_parser().parse_args(argv)
    options = load_section(args.config)
    corpus = options.pop("corpus", None)
    if corpus not in CORPORA:
        near = suggest(str(corpus), CORPORA)
        raise UASError(f"data.corpus is {corpus!r}, but must be one of {', '.join(CORPORA)}.{near}")
    if corpus == "mini":
        from uas_plugin.data.corpus_mini import MiniConfig, prepare_mini

        prepare_mini(build_config(MiniConfig, options), args.output_dir)
    else:
        from uas_plugin.data.corpus_folder import FolderConfig, prepare_folder

        prepare_folder(build_config(FolderConfig, options), args.output_dir)


if __name__ == "__main__":
    run_main(main)
