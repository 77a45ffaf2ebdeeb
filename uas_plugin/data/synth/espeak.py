"""Speech by espeak-ng through its C interface (wheel ``espeakng-loader``; no system package).

The library keeps process-global state (its noise and flutter generators go on from one utterance to
the next, and initialising it again does not reset them), so that what it says depends on what it
said before. Each utterance is therefore made in a fork of a process that never spoke: the samples
then depend on the arguments alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from uas_plugin.errors import UASError

RATE = 22050  # Hz, of every voice in the wheel's data
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, Synth returns at the end
_NO_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_UTF8 = 1
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4}  # espeak_PARAMETER


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What to say and how.

    Attributes:
        text: words in the script of the voice's language.
        voice: language and variant, as ``en-us+f2``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99, within the range of the variant; 50 is its middle.
        pitch_range: 0 (monotone) to 99.
        volume: 0 to 200, 100 is the default.
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    volume: int = 100


def speak(utterance: Utterance) -> np.ndarray:
    """Synthesize in a forked process: float32 (samples,) in [-1, 1] at :data:`RATE`.

    Call it from a process with one thread.

    Raises:
        UASError: the library refuses the voice or dies.
    """
    _library()  # initialise before forking: once, not once per utterance
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as stream:
                stream.write(_speak_here(utterance).tobytes())
            code = 0
        finally:
            os._exit(code)  # neither flush the parent's buffers nor run its exit handlers
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(child, 0)
    if status != 0 or not data:
        raise UASError(
            f"espeak-ng failed (status {status}) on voice '{utterance.voice}', "
            f"text '{utterance.text}'; `uas doctor` checks the library"
        )
    return np.frombuffer(data, dtype=np.int16).astype(np.float32) / 32768.0


@functools.cache
def _library() -> ctypes.CDLL:
    """The initialised library. Forks inherit it; nothing is ever said in this process itself."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data_path = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, _NO_EXIT)
    if rate != RATE:
        raise UASError(f"espeak-ng gave {rate} instead of {RATE} Hz")
    library.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t),
        *(ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    return library


def _speak_here(utterance: Utterance) -> np.ndarray:
    """int16 samples from the library in this process, which must not have spoken before."""
    library = _library()
    chunks: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(1)  # initialising seeds the breath noise by the clock
    if library.espeak_SetVoiceByName(utterance.voice.encode()) != 0:
        raise UASError(f"espeak-ng has no voice '{utterance.voice}'")
    for name, number in _PARAMETERS.items():
        library.espeak_SetParameter(number, getattr(utterance, name), 0)
    text = utterance.text.encode() + b"\0"
    if library.espeak_Synth(text, len(text), 0, 0, 0, _UTF8, None, None) != 0:
        raise UASError(f"espeak-ng cannot say '{utterance.text}'")
    library.espeak_Synchronize()
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)
