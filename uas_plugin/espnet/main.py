"""Start a training task: argument errors in one line, UASError without traceback."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from uas_plugin.bin import run_main


def train(task: str, argv: Sequence[str] | None = None) -> None:
    """Run the ESPnet task ``module:Class`` on the command line.

    Importing ESPnet takes 10 to 17 s: it happens here and nowhere else.
    """

    def main(arguments: Sequence[str]) -> None:
        module, name = task.split(":")
        getattr(import_module(module), name).main(cmd=list(arguments))

    run_main(main, argv)
