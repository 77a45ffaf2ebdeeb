"""Run a stock command of ESPnet with the plugin's choices in it.

The command is ESPnet's own module, unchanged. Before it starts, torchaudio is prepared for a CPU
torch, ``uas_tokens`` is added to ESPnet's frontends and codecs, threads are fixed, and checkpoints
are written beside their names and renamed, so that a killed training can be resumed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module

# At the top: processes that a training spawns import this module again, and need it too.
import uas_plugin.espnet
from uas_plugin.bin import Parser, make_parser, run_main
from uas_plugin.errors import UASError

__all__ = ["get_parser", "main"]

PACKAGE = "espnet2.bin"


def get_parser() -> Parser:
    """Options of the command (for its help: all but the first word are ESPnet's)."""
    parser = make_parser(
        "Run a stock command of ESPnet (espnet2.bin.NAME) with the plugin's choices in it.",
        "python -m uas_plugin.bin.espnet mt_train --config conf/train.yaml --output_dir exp/asr2\n"
        "python -m uas_plugin.bin.espnet asr_train --frontend uas_tokens --print_config",
    )
    parser.add_argument("name", help="mt_train, asr_inference, tts2_train, ...")
    parser.add_argument("options", nargs="*", help="options of the command")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run ESPnet's command.

    Raises:
        UASError: there is no such command, or ESPnet is not installed.
    """
    if not argv or argv[0].startswith("-"):
        get_parser().parse_args(argv or ["--help"])
    name, *options = argv
    if importlib.util.find_spec("espnet2") is None:
        raise UASError("ESPnet is not installed: local/setup.sh installs it")
    if not name.isidentifier() or importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
        raise UASError(f"ESPnet has no command '{name}' in {PACKAGE}")
    uas_plugin.espnet.registry.install()
    command = import_module(f"{PACKAGE}.{name}")
    from uas_plugin.espnet.task import atomic_torch_save
    from uas_plugin.provenance import set_threads

    set_threads()
    # --print_config reads the program's own command line, whatever main() is given.
    sys.argv = [f"{PACKAGE}.{name}", *options]
    with atomic_torch_save():
        command.main(options)


if __name__ == "__main__":
    run_main(main)
