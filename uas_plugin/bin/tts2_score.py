"""Score the speech of ESPnet's discrete TTS by what the asr2 model reads, and report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from uas_plugin.bin import Parser, add_config_argument, load_section, make_parser, run_main

ARMS = {"tts": "TTS", "real": "Real tokens", "untrained": "Untrained TTS"}
FORMS = {"audio": "rendered, tokenized again", "tokens": "the tokens as they are"}
FIRST = "audio_tts"


def labels() -> dict[str, str]:
    """System -> row heading, in the order of the table."""
    from uas_plugin.evaluation.token_asr import SHUFFLED

    rows = {
        f"{form}_{arm}": f"{name}, {what}"
        for arm, name in ARMS.items()
        for form, what in FORMS.items()
    }
    first = {FIRST: rows[FIRST], f"{FIRST}_{SHUFFLED}": "… of another clip's text"}
    return {**first, **rows}


def get_parser() -> Parser:
    """Arguments of this command."""
    parser = make_parser(
        "Score the speech of ESPnet's discrete TTS by what the asr2 model reads, and report it.",
        "python -m uas_plugin.bin.tts2_score --config conf/score.yaml --data data/test \\\n"
        "    --dump dump/test --read judge/1best_recog/text --audio render/audio/wav.scp \\\n"
        "    --corpus mini --recipe egs/mini/tts2 --output score/scores.json \\\n"
        "    --results RESULTS.md --report report.html",
    )
    add_config_argument(parser)
    parser.add_argument("--data", type=Path, required=True, help="the test set's exported files")
    parser.add_argument("--dump", type=Path, required=True, help="the test set's token dump")
    parser.add_argument("--read", type=Path, required=True, help="what the judge read")
    parser.add_argument("--audio", type=Path, required=True, help="wav.scp of the rendered arms")
    parser.add_argument("--corpus", required=True, help="name of the section in RESULTS.md")
    parser.add_argument("--recipe", required=True, help="name of the recipe, for the title")
    parser.add_argument("--output", type=Path, required=True, help="scores.json")
    parser.add_argument("--results", type=Path, required=True, help="RESULTS.md")
    parser.add_argument("--report", type=Path, required=True, help="HTML page")
    return parser


def read_systems(path: Path) -> dict[str, dict[str, str]]:
    """System (``<form>_<arm>``) -> utt -> what was read, the rendered TTS first."""
    from uas_plugin.data.espnet_files.spoken import by_arm
    from uas_plugin.evaluation.token_asr import read_text

    found = {
        f"{form}_{arm}": read
        for form, texts in by_arm(read_text(path)).items()
        for arm, read in by_arm(texts).items()
    }
    return {FIRST: found.pop(FIRST, {}), **found}


def clips_of(
    texts: Mapping[str, str], data: Path, audio: Path, read: Mapping[str, Mapping[str, str]], n: int
) -> list:
    """Clips for the page: recording, and every arm's audio with what was read of it."""
    from uas_plugin.data.espnet_files.spoken import arm_key
    from uas_plugin.evaluation.token_asr import read_text
    from uas_plugin.report.speech_page import SpokenClip, evenly

    recordings, rendered = read_text(data / "wav.scp"), read_text(audio)
    clips = []
    for utt in evenly(list(texts), n):
        rows: list[tuple[str, Path | None, str]] = [
            ("Recording", Path(recordings[utt]), read["tokens_real"].get(utt, ""))
        ]
        for arm, name in ARMS.items():
            path = rendered.get(arm_key(arm, utt))
            heard = read[f"audio_{arm}"].get(utt, "")
            rows.append((f"{name}, rendered", Path(path) if path else None, heard))
        clips.append(SpokenClip(utt, texts[utt], tuple(rows)))
    return clips


def main(argv: Sequence[str]) -> None:
    """Score, and write scores, table and page."""
    args = get_parser().parse_args(argv)
    from uas_plugin.atomic import write_text
    from uas_plugin.evaluation import token_asr
    from uas_plugin.report.speech_page import build_page

    conf = load_section(args.config)
    texts, read = token_asr.read_text(args.data / "text"), read_systems(args.read)
    figures = token_asr.score(
        texts, read, args.dump, resamples=conf["resamples"], seed=conf["seed"]
    )
    scores = token_asr.write_scores(
        args.output, f"{args.recipe}, {args.corpus}", args.corpus, args.config.parent, figures
    )
    table = token_asr.error_table(figures, labels())
    clips = clips_of(texts, args.data, args.audio, read, conf["examples"])
    write_text(args.report, build_page(scores, [table], clips))
    command = f"cd {args.recipe} && ./run.sh"
    token_asr.write_results(args.results, args.recipe, scores, [table], command)


if __name__ == "__main__":
    run_main(main)
