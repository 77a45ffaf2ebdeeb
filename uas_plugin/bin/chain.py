"""Run several commands in one process: torch and transformers are imported once (4 to 8 s)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from uas_plugin.bin import Parser, make_parser, run_main
from uas_plugin.errors import UASError

SEPARATOR = "--"


def get_parser() -> Parser:
    """Options of the command (for its help: the words themselves belong to the commands)."""
    parser = make_parser(
        "Run several commands in one process, one after the other; the first error ends it.",
        "python -m uas_plugin.bin.chain score --config ... -- results --output RESULTS.md",
    )
    parser.add_argument("commands", nargs="*", help="NAME [options] -- NAME [options] ...")
    return parser


def split(words: Sequence[str]) -> list[list[str]]:
    """The commands between the separators, empty ones left out."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def main(argv: Sequence[str]) -> None:
    """Run the commands.

    Raises:
        UASError: no command, or one that does not exist.
    """
    if not argv or argv[0] in ("-h", "--help"):
        get_parser().parse_args(["--help"])
    commands = split(argv)
    for name, *_ in commands:
        if not name.isidentifier() or find_spec(f"uas_plugin.bin.{name}") is None:
            raise UASError(f"chain: there is no command '{name}' in uas_plugin.bin")
    for name, *options in commands:
        import_module(f"uas_plugin.bin.{name}").main(options)


if __name__ == "__main__":
    run_main(main)
