"""Universal audio tokens: tokenizer, token decoder, AudioLLM and their recipes, on ESPnet.

The public names below are loaded when they are first used: importing this package imports neither
torch nor ESPnet.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from uas_plugin.compat import install_torchaudio_hook

install_torchaudio_hook()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from uas_plugin import evaluation, metrics, schema
    from uas_plugin.audiollm.api import load_audiollm
    from uas_plugin.codec.api import load_codec
    from uas_plugin.errors import UASError
    from uas_plugin.tokenizer.api import load_tokenizer

__all__ = [
    "UASError",
    "evaluation",
    "load_audiollm",
    "load_codec",
    "load_tokenizer",
    "metrics",
    "schema",
]

# public name -> where it lives, as "module" or "module:attribute"
_LAZY = {
    "UASError": "uas_plugin.errors:UASError",
    "evaluation": "uas_plugin.evaluation",
    "load_audiollm": "uas_plugin.audiollm.api:load_audiollm",
    "load_codec": "uas_plugin.codec.api:load_codec",
    "load_tokenizer": "uas_plugin.tokenizer.api:load_tokenizer",
    "metrics": "uas_plugin.metrics",
    "schema": "uas_plugin.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = importlib.import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
