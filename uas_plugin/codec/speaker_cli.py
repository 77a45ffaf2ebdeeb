"""``uas speaker``: speaker vectors of cuts into their manifest, or of files into one ``.npy``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(
        "Store the speaker vector of each cut as its field speaker_embedding (a Lhotse array in an "
        "HDF5 file\nbeside the manifest), or write the mean vector of audio files of one speaker.",
        "uas speaker --cuts data/mini/train/cuts.jsonl.gz --output data/mini/train/speaker.jsonl.gz"
        "\nuas speaker --extractor campplus=campplus.onnx --output anna.npy anna1.flac anna2.flac",
    )
    parser.prog = "uas speaker"
    add = parser.add_argument
    add("files", nargs="*", help="audio files of one speaker")
    add("--cuts", type=Path, help="CutSet (.jsonl.gz) instead of files")
    add("--output", type=Path, required=True, help="manifest (.jsonl.gz), or .npy of files")
    add("--extractor", default="resemblyzer", help="resemblyzer (default), "
        "campplus=FILE.onnx or wavlm=FOLDER")  # fmt: skip
    add("--device", default="cpu", help="torch device (default cpu)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and extract."""
    parser = get_parser()
    args = parser.parse_args(argv)
    if bool(args.files) == bool(args.cuts):
        parser.error("give audio files or --cuts.")
    if args.files and args.output.suffix != ".npy":
        parser.error("the vector of files is a .npy file.")
    if args.cuts and not args.output.name.endswith((".jsonl", ".jsonl.gz")):
        parser.error("a manifest is .jsonl or .jsonl.gz.")
    from uas_plugin.codec.speaker import load_speaker

    extractor = load_speaker(args.extractor, args.device)
    if args.files:
        mean_vector(args.files, args.output, extractor)
        print(f"{args.output}: {extractor.dim} numbers by {extractor.name}")
        return
    count, rejected = store_vectors(args.cuts, args.output, extractor)
    print(f"{args.output}: {count} cuts with {extractor.dim} numbers by {extractor.name}")
    if rejected:
        from uas_plugin.errors import left_out_text

        print(left_out_text(rejected, count + len(rejected)))


def mean_vector(files: Sequence[str], output: Path, extractor: Any) -> None:
    """Write the mean of the vectors of ``files``, each scaled to length 1, as (D,) float32.

    Raises:
        UASError: a file cannot be read, is silent or too short.
    """
    import numpy as np

    from uas_plugin.atomic import atomic_path
    from uas_plugin.data.audio import load_audio

    vectors = []
    for file in files:
        wav = load_audio(file)
        try:
            vector = extractor(wav)
        except UASError as error:
            raise UASError(f"{file}: {error}") from None
        vectors.append(vector / np.linalg.norm(vector))
    with atomic_path(output) as temporary:
        np.save(temporary, np.mean(vectors, axis=0).astype(np.float32))


def store_vectors(cuts: Path, output: Path, extractor: Any) -> tuple[int, list[dict[str, str]]]:
    """Write ``cuts`` with their vectors to ``output``, arrays first, in the same order.

    Returns:
        The number of cuts written, and ``{"id", "reason"}`` of those that are left out.

    Raises:
        UASError: the manifest is missing, or no cut can be used.
    """
    from lhotse import NumpyHdf5Writer

    from uas_plugin.atomic import atomic_path
    from uas_plugin.codec.speaker import FIELD
    from uas_plugin.data.audio import load_audio
    from uas_plugin.data.manifests import load_cuts, save_cuts
    from uas_plugin.progress import progress

    arrays = output.with_name(output.name.split(".jsonl")[0] + ".h5")
    rejected: list[dict[str, str]] = []
    made: list[Any] = []

    def vectors(writer: Any) -> Iterator[Any]:
        for cut in progress(load_cuts(cuts), desc="speaker vectors"):
            try:
                vector = extractor(load_audio(cut))
            except UASError as error:
                reason = str(error)
                named = reason if cut.id in reason else f"cut {cut.id}: {reason}"
                rejected.append({"id": cut.id, "reason": named})
                continue
            array = writer.store_array(cut.id, vector)
            # The arrays move to their final name when they are complete.
            array.storage_path = os.fspath(arrays.resolve())
            cut.custom = {**(cut.custom or {}), FIELD: array}
            yield cut

    with atomic_path(arrays) as temporary, NumpyHdf5Writer(temporary) as writer:
        made.extend(vectors(writer))
        if not made:
            reason = rejected[0]["reason"] if rejected else "there are none"
            raise UASError(f"{cuts}: no cut can be used; {reason}")
    return save_cuts(made, output), rejected
