"""Models behind one adapter. ``--model`` names one as ``kind`` or ``kind:where``.

========================  ==============================================================
``audiollm:DIR``          an AudioLLM of this project, exported
``transformers:DIR``      an audio language model of transformers
``openai:URL#NAME``       model NAME of an OpenAI-compatible server (URL with its /v1)
``text:DIR``              a text-only language model: it does not hear the audio
``audio:DIR``             speech that was made elsewhere: ``DIR/<id>.wav`` or ``.flac``
``guess``, ``majority``   a uniform guess; the option letter that is most often right
========================  ==============================================================
"""

from __future__ import annotations

import importlib

from uas_plugin.errors import UASError, suggest
from uas_plugin.evaluation.models.base import ModelAdapter, ModelOptions

#: kind -> "module:function"; the function takes what stands behind the colon, and the options.
KINDS = {
    "audiollm": "uas_plugin.evaluation.models.audiollm:load",
    "transformers": "uas_plugin.evaluation.models.transformers_audio:load",
    "openai": "uas_plugin.evaluation.models.server:load",
    "text": "uas_plugin.evaluation.models.text:load",
    "audio": "uas_plugin.evaluation.models.recorded:load",
    "guess": "uas_plugin.evaluation.models.baselines:load_guess",
    "majority": "uas_plugin.evaluation.models.baselines:load_majority",
}
#: Kinds that stand alone, without ``:where``.
ALONE = ("guess", "majority")


def load_model(spec: str, options: ModelOptions | None = None) -> ModelAdapter:
    """The adapter of ``spec``, see the module's table.

    Raises:
        UASError: the kind is unknown, what it needs is missing, or the model cannot be loaded.
    """
    kind, _, where = spec.partition(":")
    if kind not in KINDS:
        raise UASError(
            f"model '{spec}': unknown kind '{kind}'.{suggest(kind, KINDS)} "
            f"Known are {', '.join(KINDS)} (as in audiollm:exp/mini/audiollm/export)"
        )
    if (kind in ALONE) == bool(where):
        what = "takes nothing behind it" if kind in ALONE else "needs a place: kind:PLACE"
        raise UASError(f"model '{spec}': '{kind}' {what}")
    module, _, function = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), function)(where, options or ModelOptions())
