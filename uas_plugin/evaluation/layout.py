"""The tables of a run, laid out as the papers do: a row a model or baseline, a column a figure."""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.evaluation.figures import BASELINES
from uas_plugin.evaluation.pretrained import is_pretrained
from uas_plugin.evaluation.speech_tables import chat_table, reconstruction_table, tts_table
from uas_plugin.evaluation.tables import (
    DASH,
    Cell,
    Column,
    Row,
    Scores,
    Table,
    figure_map,
    hint_of,
    model_table,
    number,
    own_cell,
)


def _listeners(scores: Scores) -> tuple[Row, ...]:
    """Who annotates. Majority and chance are those of the clips, whoever does."""
    floors = "lm" if is_pretrained(scores) else "tokenizer"
    return (
        Row("Tokenizer's own decoder", "tokenizer"),
        Row("… another clip's tokens", "tokenizer", "shuffled"),
        Row("AudioLLM", "lm"),
        Row("… another clip's tokens", "lm", "shuffled"),
        Row("… no audio", "lm", "no_audio"),
        Row("majority class", floors, "majority"),
        Row("chance", floors, "chance"),
    )


def _fields(scores: Scores) -> Table | None:
    columns = [
        Column(name.capitalize(), name) for name in ("gender", "age", "emotion", "sound", "music")
    ]
    columns += [
        Column("Valid JSON", "valid_json"),
        Column("Invented speech", "invented_speech"),
    ]
    return model_table(
        scores,
        "fields",
        "Unified Audio Schema fields: accuracy",
        _listeners(scores),
        columns,
        "Clips that carry the label, mixtures left out; invalid JSON is wrong. Majority is the "
        "best constant answer on these very clips. Invented speech: clips without speech that "
        "were given words (lower is better).",
    )


def _mixtures(scores: Scores) -> Table | None:
    columns = [
        Column("Background", "background"),
        *(Column(name.capitalize(), f"{name}_mix") for name in ("gender", "age", "emotion")),
        Column("WER en", "wer_en_mix"),
        Column("CER zh", "cer_zh_mix"),
    ]
    return model_table(
        scores, "mixtures", "Speech over a background, scored apart", _listeners(scores), columns
    )


def _paper_convention(scores: Scores) -> Table | None:
    figures = figure_map(scores)
    names = ("gender", "age", "emotion")
    body = []
    for label, system in (("Tokenizer's own decoder", "tokenizer"), ("AudioLLM", "lm")):
        cells = []
        for name in names:
            detail = figures.get(f"{system}.{name}", {}).get("detail", {})
            value = detail.get("paper_accuracy")
            cells.append(Cell(number(value), value, None, f"n = {detail.get('paper_clips')}"))
        if any(cell.value is not None for cell in cells):
            body.append((Cell(label), *cells))
    if not body:
        return None
    return Table(
        "paper_fields",
        "The same fields by the papers' convention",
        ("", *(name.capitalize() for name in names)),
        tuple(body),
        tuple(True for _ in body),
        "Divided by the clips with valid JSON; null in both counts as correct, which rewards "
        "silence: the table above is the one to read.",
    )


def _recognition(scores: Scores) -> Table | None:
    rows = (
        Row("Tokenizer's own decoder, UAS JSON", "tokenizer"),
        Row("… another clip's tokens", "tokenizer", "shuffled"),
        Row("AudioLLM, UAS JSON", "lm"),
        Row("… another clip's tokens", "lm", "shuffled"),
        Row("… no audio", "lm", "no_audio"),
    )
    figures = figure_map(scores)
    renamed = dict(figures)
    # The ASR task's figures are the same columns in rows of their own.
    for name, figure in figures.items():
        system, _, rest = name.partition(".")
        if rest.startswith("asr_"):
            renamed[f"{system}_asr.{rest.removeprefix('asr_')}"] = figure
    asr = (
        Row("Tokenizer's own decoder, ASR prompt", "tokenizer_asr"),
        Row("AudioLLM, ASR prompt", "lm_asr"),
        Row("… another clip's tokens", "lm_asr", "shuffled"),
        Row("… no audio", "lm_asr", "no_audio"),
    )
    columns = [
        Column(f"{kind.upper()} {lang}{', mean' if mean else ''}", f"{kind}_{lang}{mean}")
        for kind, lang in (("wer", "en"), ("cer", "zh"), ("wer", "de"))
        for mean in ("", "_mean")
    ]
    merged = {"figures": [{**figure, "id": name} for name, figure in renamed.items()]}
    return model_table(
        merged,
        "asr",
        "Speech recognition: word and character error rates",
        (*rows, *asr),
        columns,
        "SEED-TTS-eval normalisation. Corpus level, and mean of the utterances' rates as the "
        "papers report it. Lower is better; more insertions than reference words give over 1.",
    )


def _questions(scores: Scores) -> Table | None:
    rows = (
        Row("AudioLLM", "lm"),
        Row("… another clip's tokens", "lm", "shuffled"),
        Row("… no audio", "lm", "no_audio"),
        Row("most frequent answer", "lm", "majority"),
        Row("chance", "lm", "chance"),
    )
    columns = [
        Column("Speech", "qa_speech_all"),
        Column("Sound", "qa_sound_all"),
        Column("Music", "qa_music_all"),
        Column("All", "qa"),
        *(
            Column(f"({name})", f"qa_{name}")
            for name in ("gender", "age", "emotion", "sound", "music", "background")
        ),
    ]
    figure = figure_map(scores).get("lm.qa")
    unparsed = figure["detail"]["unparsed"] if figure else 0
    return model_table(
        scores,
        "qa",
        "Audio question answering: accuracy",
        rows,
        columns,
        "Speech, Sound, Music, All: questions with 4 options. In brackets: all questions on a "
        "field, some with fewer options. The answer is an option's text, mapped to its letter; "
        f"{unparsed} of the 4-option answers named no option (wrong).",
    )


_TOKENIZERS = (
    Row("This tokenizer", "tokens"),
    Row("Untrained encoder, k-means codebook", "tokens", "untrained"),
)


def _clusters(scores: Scores) -> Table | None:
    columns = [
        Column(f"{field.capitalize()} {heading}", f"{name}_{field}")
        for field in ("sound", "music")
        for heading, name in (
            ("Sil (cos)", "silhouette_cosine"),
            ("Sil (euc)", "silhouette_euclidean"),
            ("Purity", "purity"),
            ("1-NN", "nearest_neighbour"),
        )
    ]
    figure = figure_map(scores).get("tokens.purity_sound")
    spread = ""
    if figure:
        spread = (
            f" Purity of sounds is the mean of {len(figure['detail']['seeds'])} k-means seeds, "
            f"standard deviation {number(figure['detail']['std'])}"
        )
        other = figure["detail"].get("untrained_std")
        spread += f" (untrained {number(other)})." if other is not None else "."
    return model_table(
        scores,
        "clusters",
        "Token histograms by class",
        (*_TOKENIZERS, Row("chance (labels shuffled)", "tokens", "chance")),
        columns,
        "L1-normalised histograms over the codebook; silhouettes with the true classes." + spread,
    )


def _codebook(scores: Scores) -> Table | None:
    columns = [
        Column("Codes in use", "usage"),
        Column("Entropy (bits)", "entropy"),
        Column("Perplexity", "perplexity"),
    ]
    size = scores.get("tokenizer", {}).get("codebook_size")
    rate = scores.get("tokenizer", {}).get("frame_rate")
    return model_table(
        scores,
        "codebook",
        "Codebook use on the test clips",
        _TOKENIZERS,
        columns,
        f"{size} codes at {rate:g} Hz." if size and rate else "",
    )


def _probe(scores: Scores) -> Table | None:
    columns = [
        Column(name.capitalize(), f"probe_{name}")
        for name in ("gender", "age", "emotion", "sound", "music")
    ]
    rows = (
        *_TOKENIZERS,
        Row("majority class", "tokens", "majority"),
        Row("chance", "tokens", "chance"),
    )
    compared = (
        ": the like-for-like comparison with the untrained tokenizer, which has no decoder of its "
        "own"
    )
    return model_table(
        scores,
        "probe",
        "Linear probe on token histograms: accuracy",
        rows,
        columns,
        f"Logistic regression fitted on training clips{'' if is_pretrained(scores) else compared}.",
    )


def target_table(scores: Scores) -> Table | None:
    """Every figure that has a target, with its mark and strongest baseline."""
    body = []
    for figure in scores["figures"]:
        if "target" not in figure:
            continue
        lower = figure.get("better") == "lower"
        # The real clips' tokens are a ceiling, not something to beat.
        rivals = {k: v for k, v in figure["baselines"].items() if k in BASELINES - {"original"}}
        best = (min if lower else max)(rivals, key=lambda k: rivals[k], default=None)
        beside = Cell(f"{number(rivals[best])} ({best.replace('_', ' ')})" if best else DASH)
        sign = "≤" if lower else "≥"
        system, _, _ = figure["id"].partition(".")
        body.append(
            (
                Cell(f"{figure['label']} · {_SYSTEMS.get(system, system)}"),
                own_cell(figure),
                Cell(f"{sign} {number(figure['target'])}", figure["target"]),
                beside,
                Cell(str(figure["n"]), figure["n"]),
            )
        )
    if not body:
        return None
    return Table(
        "targets",
        "Targets",
        ("", "Reached", "Target", "Best baseline", "Clips"),
        tuple(body),
        tuple(True for _ in body),
    )


_SYSTEMS = {
    "tokenizer": "tokenizer",
    "lm": "AudioLLM",
    "tokens": "tokens",
    "codec": "reconstruction",
    "tts": "TTS",
    "chat_text": "speech chat",
    "chat_speech": "speech chat",
}


def run_tables(scores: Scores) -> list[Table]:
    """All tables of a run (or ablation) that have something in them, in reading order."""
    builders = (
        target_table, _fields, _paper_convention, _recognition, _mixtures, _questions, _clusters,
        _codebook, _probe, reconstruction_table, tts_table, chat_table,
    )  # fmt: skip
    return [table for build in builders if (table := build(scores)) is not None]


ABLATIONS = "Ablations of the tokenizer"  # the table's title


def ablation_table(full: Scores, ablations: Sequence[Scores]) -> Table | None:
    """The full tokenizer beside its ablations, figures of the tokenizer alone."""
    if not ablations or is_pretrained(full):  # those are of a training that was here before
        return None
    columns = [
        ("Gender", "tokenizer.gender"),
        ("Emotion", "tokenizer.emotion"),
        ("Sound", "tokenizer.sound"),
        ("Music", "tokenizer.music"),
        ("Valid JSON", "tokenizer.valid_json"),
        ("WER en, JSON", "tokenizer.wer_en"),
        ("WER en, ASR", "tokenizer.asr_wer_en"),
        ("CER zh, JSON", "tokenizer.cer_zh"),
        ("Codes in use", "tokens.usage"),
        ("Perplexity", "tokens.perplexity"),
        ("Purity", "tokens.purity_sound"),
        ("Sil (cos)", "tokens.silhouette_cosine_sound"),
    ]
    body = []
    for scores, label in [(full, "this run, full length"), *((a, a["name"]) for a in ablations)]:
        figures = figure_map(scores)
        cells = []
        for _, name in columns:
            figure = figures.get(name)
            if figure is None:
                cells.append(Cell(DASH))
            else:
                value = figure["value"]
                cells.append(Cell(number(value), value, None, hint_of(figure)))
        body.append((Cell(label), *cells))
    return Table(
        "ablations",
        ABLATIONS,
        ("", *(heading for heading, _ in columns)),
        tuple(body),
        (True, *(False for _ in ablations)),
        "The ablations were trained for a shorter time, the same for all: compare them with one "
        "another. One training each, so differences of a few hundredths are noise.",
    )
