"""``uas evaluate reconstruction``: one table of systems, with the recordings as their limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError

JSON_NAME, TABLE_NAME, CLIPS_NAME = "reconstruction.json", "reconstruction.md", "clips.jsonl"


def get_parser() -> Parser:
    """Arguments of ``uas evaluate reconstruction``."""
    parser = make_parser(
        "Score audio that was made from tokens (folders of `uas reconstruct`) against the "
        "recordings, one row a\nsystem; rows of the recordings themselves, of the vocoder alone "
        "and of shuffled recordings are limits.\nClips that cannot be read are left out and named. "
        "A run that was killed continues.",
        "uas evaluate reconstruction --references data/mini/test/cuts.jsonl.gz \\\n"
        "    --systems ours=exp/ours --systems other=exp/other --codec exp/mini/codec/export "
        "--vocoder_only \\\n    --shuffled --asr whisper=DIR -o exp/reconstruction",
    )
    parser.prog = "uas evaluate reconstruction"
    add = parser.add_argument
    add("--references", type=Path, required=True, help="CutSet of the recordings (.jsonl.gz)")
    add("--systems", action="append", default=[], nargs="+", metavar="NAME=FOLDER",
        help="folders of `uas reconstruct`; repeatable")  # fmt: skip
    add("--codec", help="token decoder, for --vocoder_only")
    add("--vocoder_only", action="store_true", help="add the recordings through mel and vocoder")
    add("--shuffled", action="store_true", help="add each clip with another one's recording")
    add("--metrics", default="", help="comma-separated: wer, mos, sim, mel, stft, f0, pesq, stoi "
        "(default: all of these whose packages are installed), snr, si_sdr, fad, clap, "
        "versa")  # fmt: skip
    add("--asr", action="append", default=[], metavar="JUDGE", help="pocketsphinx (default, "
        "English), whisper[=FOLDER or hub name], paraformer[=FOLDER] (Chinese); repeatable, the "
        "first that takes a clip's language hears it")  # fmt: skip
    add("--mos", default="dnsmos", metavar="JUDGE", help="dnsmos (default) or utmos[=FOLDER]")
    add("--speaker", default="resemblyzer", metavar="JUDGE",
        help="resemblyzer (default), wavlm=FOLDER or campplus=FILE.onnx")  # fmt: skip
    add("--embedding", default="mel", metavar="JUDGE", help="of fad: mel (default, in no published "
        "figure) or clap=FOLDER, which adds fad and clap")  # fmt: skip
    add("--versa", default="", metavar="FILE.yaml", help="add the metrics of one of VERSA's score "
        "configurations (where it is installed)")  # fmt: skip
    add("--language", help="of clips whose supervisions name none (en, zh, ...)")
    add("-o", "--output", type=Path, required=True, help="folder to write")
    add("--seed", type=int, default=0, help="of intervals and shuffling (default: 0)")
    add("--num_workers", type=int, default=1, help="processes that measure (default: 1)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Measure, write the report, and print the table."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.vocoder_only and not args.codec:
        parser.error("--vocoder_only needs --codec.")
    if args.num_workers < 1:
        parser.error("--num_workers must be at least 1.")
    systems = system_folders([spec for group in args.systems for spec in group])
    from uas_plugin.evaluation.reconstruction.compare import Choices
    from uas_plugin.evaluation.reconstruction.table import reconstruction_table
    from uas_plugin.evaluation.tokenizer_table import plain_text

    choices = Choices(
        metrics=tuple(name for name in args.metrics.replace(",", " ").split()),
        recognizers=tuple(args.asr) or ("pocketsphinx",),
        mos=args.mos,
        speaker=args.speaker,
        embedding=args.embedding,
        versa=args.versa,
        seed=args.seed,
    )
    report = evaluate(args, systems, choices)
    print(plain_text(reconstruction_table(report)))
    if report["left_out"]:
        from uas_plugin.errors import left_out_text

        print(left_out_text(report["left_out"], report["clips"]["given"]))


def system_folders(specs: Sequence[str]) -> dict[str, Path]:
    """Folder by name of ``NAME=FOLDER``.

    Raises:
        UASError: no such form, a name that stands there twice or is a limit's, or no folder.
    """
    from uas_plugin.evaluation.reconstruction.clips import SHUFFLED, TRUTH, VOCODER

    found: dict[str, Path] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        if not equals or not name or not path:
            raise UASError(f"--systems {spec}: give NAME=FOLDER")
        if name in found or name in (TRUTH, VOCODER, SHUFFLED):
            raise UASError(f"--systems: two rows would be named '{name}'")
        if not Path(path).is_dir():
            raise UASError(f"system '{name}': there is no folder {path}")
        found[name] = Path(path)
    return found


def evaluate(args: Any, systems: dict[str, Path], choices: Any) -> dict[str, Any]:
    """Measure all rows and write ``clips.jsonl``, the table and, last, the JSON report."""
    from uas_plugin.atomic import write_json, write_jsonl, write_text
    from uas_plugin.evaluation.reconstruction import clips
    from uas_plugin.evaluation.reconstruction.cache import Runner
    from uas_plugin.evaluation.reconstruction.compare import compare, judges
    from uas_plugin.evaluation.reconstruction.table import reconstruction_table
    from uas_plugin.evaluation.results import markdown_table
    from uas_plugin.provenance import file_sha256, provenance

    found = judges(choices, args.device)  # before an hour of work
    references = clips.read_references(args.references, args.language)
    table, left_out = _rows(args, systems, references)
    if args.shuffled:
        usable = [one for one in references if one.id not in left_out]
        table.append(clips.shuffled_row(table[0], usable, choices.seed))
    with Runner(args.output / "cache", args.num_workers) as runner:
        report, values = compare(references, table, left_out, found, choices, runner)
    known = {"path": str(args.references), "sha256": file_sha256(args.references)}
    report |= {"inputs": {"references": known}, "provenance": provenance()}
    write_jsonl(args.output / CLIPS_NAME, values)
    shown = reconstruction_table(report)
    write_text(args.output / TABLE_NAME, f"# {shown.title}\n\n{markdown_table(shown)}\n")
    write_json(args.output / JSON_NAME, report)
    return report


def _rows(args: Any, systems: dict[str, Path], references: Sequence[Any]) -> tuple[list[Any], dict]:
    """The rows, the recordings' first, and why clips cannot be used (the first row's reason)."""
    import json

    from uas_plugin.evaluation.reconstruction import clips

    names = [one.id for one in references]
    prints = clips.Fingerprints()
    sources = {one.id: one.cut for one in references}
    truth, left_out = clips.make_row(clips.TRUTH, sources, names, prints)
    rows = [truth]
    if args.vocoder_only:
        from uas_plugin.codec.api import load_codec
        from uas_plugin.codec.reconstruct import codec_hashes

        facts = {"codec": args.codec, "sha256": codec_hashes(args.codec)}
        codec = load_codec(args.codec, device=args.device)
        folder = args.output / "vocoder_only"
        usable = [one for one in references if one.id not in left_out]
        made = clips.vocoder_only(codec, usable, folder, {**facts, "seed": codec.seed})
        row, failed = clips.make_row(clips.VOCODER, made, names, prints, facts=facts)
        rows.append(row)
        left_out = failed | left_out
    for name, folder in systems.items():
        sources = clips.read_system(name, folder)
        info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        facts = {"folder": str(folder), "info": info}
        row, failed = clips.make_row(name, sources, names, prints, system=True, facts=facts)
        rows.append(row)
        left_out = failed | left_out
    return rows, left_out
