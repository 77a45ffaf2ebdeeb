"""The ``uas`` command: a table of verbs; each is a ``main(argv)`` that is imported when called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from uas_plugin import __version__
from uas_plugin.bin import run_main
from uas_plugin.errors import UASError, suggest

# verb -> ("module:function", what it does). A new verb is one line here.
VERBS: dict[str, tuple[str, str]] = {
    "tokenize": ("uas_plugin.tokenizer.cli:main", "audio files or cuts -> token ids"),
    "reconstruct": ("uas_plugin.codec.cli:main", "token ids or audio -> audio"),
    "export": ("uas_plugin.data.espnet_files.cli:main", "dumps, cuts -> ESPnet data, Shar"),
    "speaker": ("uas_plugin.codec.speaker_cli:main", "audio -> speaker vectors"),
    "codec": ("uas_plugin.codec.convert:main", "convert a released token decoder"),
    "generate": ("uas_plugin.audiollm.cli:main", "audio and text -> the AudioLLM's answer"),
    "serve": ("uas_plugin.serve.cli:main", "the AudioLLM behind OpenAI's chat completions"),
    "lm": ("uas_plugin.audiollm.lm_cli:main", "show the AudioLLM's form of a task"),
    "plan": ("uas_plugin.audiollm.plan_cli:main", "what a corpus takes; a training's memory"),
    "ctc": ("uas_plugin.ctc.cli:main", "decode and align CTC posteriors, with k2 or without"),
    "uniaudio2": ("uas_plugin.audiollm.uniaudio2.cli:main", "every task of UniAudio 2.0"),
    "annotate": ("uas_plugin.annotate.cli:main", "audio, captions -> UAS JSON through a server"),
    "schema": ("uas_plugin.schema.cli:main", "check or show UAS JSON"),
    "qa": ("uas_plugin.qa.cli:main", "annotated cuts -> questions and answers"),
    "evaluate": ("uas_plugin.evaluation.cli:main", "score responses"),
    "status": ("uas_plugin.recipe.status_cli:main", "how a run stands"),
    "report": ("uas_plugin.report.cli:main", "one HTML file of a finished run"),
    "config": ("uas_plugin.config.cli:main", "show the resolved configuration"),
    "torchrun": ("uas_plugin.recipe.launch:main", "start a training on GPUs and nodes"),
    "doctor": ("uas_plugin.doctor:main", "check this installation"),
}

EXAMPLE = "uas doctor"


def help_text() -> str:
    """What ``uas --help`` prints."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {verb:<{width}}{text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: uas <verb> [options]\n\n"
        "Universal audio tokens: tokenize, reconstruct, generate, evaluate.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`uas <verb> --help` gives the options of a verb; `uas --version` the version.\n\n"
        f"example:\n  {EXAMPLE}\n"
    )


def _dispatch(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return
    verb, rest = argv[0], list(argv[1:])
    if verb in ("-V", "--version"):
        print(f"uas {__version__}")
        return
    if verb not in VERBS:
        raise UASError(f"unknown verb '{verb}'.{suggest(verb, VERBS)} `uas --help` lists them.")
    module, _, function = VERBS[verb][0].partition(":")
    sys.argv[0] = f"uas {verb}"  # argparse names the program after it, in help and errors
    getattr(importlib.import_module(module), function)(rest)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``uas`` console script."""
    run_main(_dispatch, argv)


if __name__ == "__main__":
    main()
