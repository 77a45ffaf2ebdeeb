"""Tables of audio that was made from tokens: reconstruction, text to speech, speech chat."""

from __future__ import annotations

from uas_plugin.evaluation.pretrained import is_pretrained
from uas_plugin.evaluation.tables import Column, Row, Scores, Table, figure_map, model_table


def reconstruction_table(scores: Scores) -> Table | None:
    """Audio made from the clips' own tokens."""
    figures = figure_map(scores)
    named = {
        "waveform": "… mel of the waveform it gives",
        "code_mean": "Mean mel of each code",
        "mean": "Mean mel",
        "untrained": "Untrained decoder",
        "original": "Original tokens",
        "shuffled": "Another clip's tokens",
    }
    mel = figures.get("codec.mel_l1", {"baselines": {}})["baselines"]
    rows = [Row("Token decoder", "codec")]
    rows += [
        Row(named.get(name, name.replace("_", " ")), "codec", name)
        for name in (*mel, *(key for key in ("original", "shuffled") if key not in mel))
    ]
    rows.append(Row("majority class", "codec", "majority"))
    read_back = (
        " WER and gender: the audio is tokenized again and read by the tokenizer's own decoder; "
        "original tokens are the ceiling of that reader, another clip's tokens its floor."
    )
    columns = [
        Column("Mel L1", "mel_l1"),
        Column("Mel L2", "mel_l2"),
        Column("WER en", "wer_en"),
        Column("CER zh", "cer_zh"),
        Column("Gender kept", "gender"),
    ]
    return model_table(
        scores,
        "reconstruction",
        "Reconstruction",
        rows,
        columns,
        f"Mel: distances of standardised log-mels.{'' if is_pretrained(scores) else read_back}",
    )


def tts_table(scores: Scores) -> Table | None:
    """Audio that the AudioLLM spoke."""
    read_back = ", read back by the tokenizer's own decoder"
    rows = (
        Row("AudioLLM", "tts"),
        Row("Real clips' tokens", "tts", "original"),
        Row("Another clip's tokens", "tts", "shuffled"),
        Row("majority class", "tts", "majority"),
        Row("chance", "tts", "chance"),
    )
    columns = [
        Column("WER en", "wer_en"),
        Column("CER zh", "cer_zh"),
        Column("Asked gender", "gender"),
        Column("Repeated tokens", "repeat_rate"),
        Column("Repeated n-grams", "ngram_rate"),
        Column("Longest run", "longest_run"),
        Column("Length ratio", "length_ratio"),
    ]
    return model_table(
        scores,
        "tts",
        f"Text to speech{'' if is_pretrained(scores) else read_back}",
        rows,
        columns,
    )


def chat_table(scores: Scores) -> Table | None:
    """Spoken questions that the AudioLLM answered in text and speech."""
    rows = (
        Row("Text of the reply", "chat_text"),
        Row("… to another clip", "chat_text", "shuffled"),
        Row("… to no audio", "chat_text", "no_audio"),
        Row("Speech of the reply, read back", "chat_speech"),
        Row("… to another clip", "chat_speech", "shuffled"),
        Row("… the question itself, read back", "chat_speech", "original"),
    )
    columns = [Column("WER en", "wer_en"), Column("CER zh", "cer_zh")]
    return model_table(scores, "speech_chat", "Speech chat", rows, columns)
