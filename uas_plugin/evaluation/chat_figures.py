"""Figures of speech chat: a spoken question is answered in text and speech, in turn.

The text is compared with the reply's words. The speech is read back by the tokenizer's own decoder,
if it has one, as generated speech is (``speech_figures``).
"""

from __future__ import annotations

from dataclasses import replace

from uas_plugin.evaluation import understanding
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure
from uas_plugin.evaluation.run_folder import RunFolder

TASK = "speech_chat"


def chat_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Error rates of the replies' words, written (``chat_text.``) and spoken (``chat_speech.``).

    Both have the controls of the question: another clip's audio, and none. None at all in a run
    whose model learned no speech chat.
    """
    asked = {
        control: run.decoded("audiollm", f"{TASK}.{control}", required=False).get(TASK, {})
        for control in ("none", "shuffled", "no_audio")
    }
    own = asked["none"]
    if not own:
        return []
    # What counts is what should be replied, which need not be what the clip itself says.
    said = {clip.id: clip.text for clip in run.clips("test")}
    clips = [
        replace(clip, text=own[clip.id]["item"]["text"], unscored=frozenset())
        for clip in run.clips("test")
        if clip.id in own
    ]
    written = {name: understanding.responses(rows) for name, rows in asked.items() if rows}
    figures = understanding.recognition_figures(
        "chat_text.", clips, written, config, suffix_label=", reply's text", split_mixtures=False
    )
    if run.pretrained:
        return figures
    files = {"none": TASK, "shuffled": f"{TASK}_shuffled"}
    if all(clip.text == said.get(clip.id) for clip in clips):
        files["original"] = "test"  # the question says what the reply should: the reader's ceiling
    spoken = {
        name: understanding.transcriptions(run.decoded("tokenizer", file).get("uas", {}))
        for name, file in files.items()
    }
    return figures + understanding.recognition_figures(
        "chat_speech.", clips, spoken, config, suffix_label=", reply's speech", split_mixtures=False
    )
