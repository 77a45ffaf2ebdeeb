"""A manifest of cuts as a Lhotse Shar, shard by shard; a shard is complete or absent.

``folder/shards`` holds Lhotse's files alone; beside it lie ``order.jsonl.gz`` (the cuts in the
order in which they are dealt to shards), ``marks/`` (one file a finished shard) and, written last,
``info.json``. Audio that is a file of its own is copied byte by byte; a part of a file becomes
FLAC.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import logging
import multiprocessing
import shutil
import tarfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from uas_plugin.atomic import atomic_path, open_text, write_json, write_jsonl
from uas_plugin.data.audio import averaged, locate, read_samples
from uas_plugin.data.manifests import save_cuts
from uas_plugin.data.shar.read import INFO_NAME, RECORDING, SHARDS_NAME
from uas_plugin.data.spill import Spill
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256

ORDER_NAME, MARKS_NAME, OPTIONS_NAME = "order.jsonl.gz", "marks", "options.json"
REJECTED_NAME = "rejected.jsonl"


@dataclass(frozen=True, kw_only=True)
class SharOptions:
    """How a Shar is written.

    Attributes:
        shard_size: cuts of a shard.
        seed: of the order in which cuts are dealt to shards; every shard is a sample of all.
        arrays: custom fields whose arrays are stored too (``tokens`` of a token dump).
    """

    shard_size: int = 1000
    seed: int = 0
    arrays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise UASError(f"shard_size must be at least 1, not {self.shard_size}")


@dataclass
class _Mark:
    """What is remembered of a finished shard."""

    cuts: int = 0
    seconds: float = 0.0
    files: dict[str, int] = field(default_factory=dict)
    rejected: list[dict[str, str]] = field(default_factory=list)


def write_shar(
    cuts: Path, folder: Path, options: SharOptions, num_workers: int = 1
) -> dict[str, Any]:
    """Write all of it; killed at any instant and called again, it goes on. What info.json holds.

    Raises:
        UASError: as the three functions it calls.
    """
    order_cuts(cuts, folder, options)
    write_part(folder, num_workers=num_workers)
    return join_parts(folder)


def order_cuts(cuts: Path, folder: Path, options: SharOptions) -> None:
    """Write the cuts in an order that depends on the seed and their ids alone.

    Raises:
        UASError: the manifest is missing, or the folder holds a Shar of something else.
    """
    if not cuts.is_file():
        raise UASError(f"manifest {cuts} is missing: a Shar is written of a cuts.jsonl.gz")
    made_of = json.loads(json.dumps({"sha256": file_sha256(cuts), **asdict(options)}))
    path = folder / OPTIONS_NAME
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != made_of:
        raise UASError(
            f"{folder} holds a Shar of other cuts or options: remove it, or name another"
        )
    if (folder / ORDER_NAME).exists():
        return
    write_json(path, made_of)
    spill = Spill()
    with open_text(cuts) as stream:
        for number, line in enumerate(stream, 1):
            key = _id(line, f"{cuts}:{number}")
            digest = hashlib.sha256(f"{options.seed}\x1f{key}".encode()).hexdigest()
            spill.add(f"{digest} {key}", line.rstrip("\n"))
    with atomic_path(folder / ORDER_NAME) as temporary, open_text(temporary, "w") as out:
        before = ""
        for key, line in spill:
            if key == before:
                raise UASError(f"{cuts}: the id {key.partition(' ')[2]} stands there twice")
            out.write(f"{line}\n")
            before = key


def _id(line: str, where: str) -> str:
    """The id of a cut's line; it will be a name in an archive."""
    try:
        key = json.loads(line)["id"]
        path = PurePosixPath(key)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UASError(f"{where}: no cut in JSON") from None
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UASError(f"{where}: the id {key!r} cannot be the name of a file in an archive")
    return key


def write_part(folder: Path, part: int = 0, parts: int = 1, num_workers: int = 1) -> None:
    """Write every ``parts``-th shard from the ``part``-th on, those that are not there yet.

    Args:
        num_workers: processes.

    Raises:
        UASError: the order is missing.
    """
    options = _options(folder)
    jobs = (
        (folder, number, lines, options.arrays)
        for number, lines in _jobs(folder, options.shard_size, part, parts)
        if not _finished(folder, number)
    )
    for _ in progress(_written(jobs, num_workers), desc=f"shards of part {part + 1}/{parts}"):
        pass


def _written(jobs: Iterator[tuple[Any, ...]], num_workers: int) -> Iterator[None]:
    if num_workers == 1:
        for job in jobs:
            _write_shard(*job)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        ahead: deque[Future[None]] = deque()
        for job in jobs:
            ahead.append(pool.submit(_write_shard, *job))
            if len(ahead) >= 2 * num_workers:  # their cuts are in memory
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _options(folder: Path) -> SharOptions:
    path = folder / OPTIONS_NAME
    if not (folder / ORDER_NAME).exists():
        raise UASError(f"{folder / ORDER_NAME} is missing: `uas export shar` begins with it")
    stored = json.loads(path.read_text(encoding="utf-8"))
    return SharOptions(
        shard_size=stored["shard_size"], seed=stored["seed"], arrays=tuple(stored["arrays"])
    )


def _jobs(folder: Path, size: int, part: int, parts: int) -> Iterator[tuple[int, list[str]]]:
    with open_text(folder / ORDER_NAME) as stream:
        for number in itertools.count():
            lines = list(itertools.islice(stream, size))
            if not lines:
                return
            if number % parts == part:
                yield number, lines


def _mark_path(folder: Path, number: int) -> Path:
    return folder / MARKS_NAME / f"{number:06d}.json"


def _mark(folder: Path, number: int) -> _Mark | None:
    path = _mark_path(folder, number)
    return _Mark(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _finished(folder: Path, number: int) -> bool:
    """Whether a shard has its mark, and its files the sizes that the mark states."""
    mark = _mark(folder, number)
    if mark is None:
        return False
    shards = folder / SHARDS_NAME
    wrong = [
        name
        for name, size in mark.files.items()
        if not (shards / name).is_file() or (shards / name).stat().st_size != size
    ]
    if wrong:
        logging.warning("shard %06d is damaged (%s): writing it again", number, ", ".join(wrong))
        (folder / INFO_NAME).unlink(missing_ok=True)  # until it is there again, the whole is not
        _mark_path(folder, number).unlink()
    return not wrong


def _write_shard(folder: Path, number: int, lines: Sequence[str], arrays: Sequence[str]) -> None:
    """Write a shard's files beside their place, move them there, the cuts last, and mark it."""
    from lhotse.serialization import deserialize_item

    making, mark, cuts = folder / f".making.{number:06d}", _Mark(), []
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    with contextlib.ExitStack() as stack:
        archives = {
            name: stack.enter_context(tarfile.open(making / f"{name}.{number:06d}.tar", "w"))
            for name in (RECORDING, *arrays)
        }
        for line in lines:
            cut = deserialize_item(json.loads(line))
            try:
                stored = {name: _data_of(cut, name) for name in archives}
            except UASError as error:
                logging.warning("left out: %s", error)  # it names the cut
                mark.rejected.append({"id": cut.id, "reason": str(error)})
                continue
            cuts.append(_store(cut, stored, archives))
    mark.cuts, mark.seconds = len(cuts), sum(cut.duration for cut in cuts)
    if cuts:  # of a shard of which nothing is left there are no files
        save_cuts(cuts, making / f"cuts.{number:06d}.jsonl.gz")
        mark.files = _move(making, folder / SHARDS_NAME)
    shutil.rmtree(making)
    write_json(_mark_path(folder, number), asdict(mark))


def _move(making: Path, shards: Path) -> dict[str, int]:
    shards.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for path in sorted(making.iterdir(), key=lambda path: path.name.startswith("cuts.")):
        sizes[path.name] = path.stat().st_size
        path.replace(shards / path.name)
    return sizes


def _data_of(cut: Any, name: str) -> tuple[str, bytes, Any] | None:
    """Suffix, content and manifest of a cut's audio or array; None where it has none.

    Raises:
        UASError: it cannot be read.
    """
    if name == RECORDING:
        return _audio(cut) if getattr(cut, "recording", None) is not None else None
    import numpy as np

    if not cut.has_custom(name):
        return None
    try:
        array = cut.load_custom(name)
    except (OSError, KeyError, ValueError) as error:
        raise UASError(f"cut {cut.id}: its {name} cannot be read: {error}") from None
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return ".npy", stream.getvalue(), getattr(cut, name)


def _audio(cut: Any) -> tuple[str, bytes, Any]:
    from lhotse import AudioSource, Recording

    name, source, offset, frames = locate(cut)
    samples, rate = read_samples(source, offset, frames, name)
    averaged(samples, name)
    count, channels = samples.shape
    recording = Recording(
        id=cut.id,
        sources=[AudioSource(type="shar", channels=list(range(channels)), source="")],
        sampling_rate=rate,
        num_samples=count,
        duration=count / rate,
        channel_ids=list(range(channels)),
    )
    if offset or frames >= 0:
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, samples, rate, format="FLAC", subtype="PCM_24")
        return ".flac", stream.getvalue(), recording
    if isinstance(source, bytes):
        return ".audio", source, recording
    return Path(source).suffix.lower() or ".audio", Path(source).read_bytes(), recording


def _store(cut: Any, stored: dict[str, Any], archives: dict[str, tarfile.TarFile]) -> Any:
    """Put a cut's data into their archives; the cut as it stands in the manifest."""
    from lhotse.shar.utils import to_shar_placeholder
    from lhotse.utils import fastcopy

    cut = fastcopy(cut, start=0.0, custom=dict(cut.custom) if cut.custom else cut.custom)
    for name, data in stored.items():
        if data is None:
            _add(archives[name], f"{cut.id}.nodata", b"")
            _add(archives[name], f"{cut.id}.nometa", b"")
            continue
        suffix, content, manifest = data
        manifest = to_shar_placeholder(manifest)
        _add(archives[name], f"{cut.id}{suffix}", content)
        text = json.dumps(manifest.to_dict(), ensure_ascii=False)
        _add(archives[name], f"{cut.id}.json", text.encode())
        setattr(cut, name, manifest)
    return cut


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner: the bytes depend on the data alone
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def join_parts(folder: Path) -> dict[str, Any]:
    """Check that every shard is there, and write ``rejected.jsonl`` and, last, ``info.json``.

    Raises:
        UASError: a shard is missing, or nothing could be written at all.
    """
    options, total, rejected, shards = _options(folder), _Mark(), [], 0
    for number, _ in _jobs(folder, options.shard_size, 0, 1):
        mark = _mark(folder, number)
        if mark is None or not _finished(folder, number):
            raise UASError(f"shard {number:06d} of {folder} is missing: write its part again")
        total.cuts, total.seconds = total.cuts + mark.cuts, total.seconds + mark.seconds
        rejected += mark.rejected
        shards += bool(mark.cuts)
    write_jsonl(folder / REJECTED_NAME, rejected)
    if not shards:
        raise UASError(f"{folder}: none of the cuts could be written; {REJECTED_NAME} says why")
    info = {
        "shards": shards,
        "fields": [RECORDING, *options.arrays],
        "cuts": total.cuts,
        "seconds": round(total.seconds, 3),
        "rejected": len(rejected),
        "shard_size": options.shard_size,
        "seed": options.seed,
    }
    write_json(folder / INFO_NAME, info)
    return info
