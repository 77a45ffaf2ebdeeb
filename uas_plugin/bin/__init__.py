"""Entry points ``python -m uas_plugin.bin.<name>`` in ESPnet's manner.

Each module has ``get_parser()`` and ``main(argv)``; arguments are parsed before anything heavy is
imported.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError, suggest


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and name the nearest known option."""

    def error(self, message: str) -> Any:
        marker = "unrecognized arguments: "
        if marker in message:
            name = message.split(marker, 1)[1].split()[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            message += "." + suggest(name, known)
        print(f"{self.prog}: error: {message} See --help.", file=sys.stderr)
        raise SystemExit(2)


def make_parser(description: str, example: str) -> Parser:
    """A parser with ``--help`` that ends with an example and shows defaults."""
    return Parser(
        description=description,
        epilog="example:\n  " + example.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--config FILE``, the section of the run's resolved configuration for this stage."""
    parser.add_argument("--config", type=Path, required=True, help="resolved YAML of this stage")


def load_section(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a resolved section file (plain YAML: object tags are refused).

    Raises:
        UASError: the file is missing, is no mapping, or is not plain YAML.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as stream:
            section = yaml.safe_load(stream)
    except FileNotFoundError:
        raise UASError(f"configuration {path} is missing: `run.sh` writes it") from None
    except yaml.YAMLError as error:
        raise UASError(f"configuration {path} is not plain YAML: {error}") from None
    if not isinstance(section, dict):
        raise UASError(f"configuration {path} must be a mapping of keys to values")
    return section


def run_main(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """Run a command: log to stderr, print a UASError as one line and exit with 2."""
    logging.basicConfig(
        level=os.environ.get("UAS_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s (%(module)s:%(lineno)d) %(message)s",
        stream=sys.stderr,
    )
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UASError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
