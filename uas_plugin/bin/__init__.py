"""Entry points ``python -m uas_plugin.bin.<name>`` in ESPnet's manner.

Each module has ``get_parser()`` and ``main(argv)``; arguments are parsed before anything heavy is
imported.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from uas_plugin.errors import UASError, suggest
from uas_plugin.logs import as_json, start_logging

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Disk full, quota used up, file too large for its limit."""


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
    except (yaml.YAMLError, RecursionError) as error:
        raise UASError(f"configuration {path} is not plain YAML: {error}") from None
    if not isinstance(section, dict):
        raise UASError(f"configuration {path} must be a mapping of keys to values")
    return section


def run_main(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """Run a command: log to stderr, print a UASError as one line and exit with 2."""
    start_logging()
    try:
        main(sys.argv[1:] if argv is None else argv)
    except UASError as error:
        _fail(str(error))
    except BrokenPipeError:
        raise SystemExit(141) from None
    except OSError as error:
        # HDF5 tells the number in its text only.
        if error.errno not in NO_SPACE and not any(f"errno = {n}," in str(error) for n in NO_SPACE):
            raise
        where = f" for {error.filename}" if error.filename else ""
        reason = error.strerror or "the disk is full"
        _fail(
            f"no space left{where} ({reason}): free some and run the same command again; what is "
            "finished stays"
        )


def _fail(message: str) -> NoReturn:
    if as_json():
        logging.getLogger(__name__).error(message)
    else:
        print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None
