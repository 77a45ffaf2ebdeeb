"""Shars: Lhotse reads what is written, and training goes through them as it should."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, NumpyHdf5Writer

from uas_plugin.atomic import read_jsonl
from uas_plugin.data.audio import first_channel, load_audio
from uas_plugin.data.manifests import cut_of_file, load_cuts, save_cuts
from uas_plugin.data.sampling import loaded
from uas_plugin.data.shar.cli import main as export_shar
from uas_plugin.data.shar.stream import SharStream, all_shar
from uas_plugin.data.shar.write import SharOptions, join_parts, order_cuts, write_part, write_shar
from uas_plugin.errors import UASError

CLIPS, SIZE = 46, 8
SHARDS = -(-CLIPS // SIZE)


def made(folder: Path, name: str, count: int) -> Path:
    """A manifest of ``count`` clips of several rates and channels, one in nine a part of a file."""
    rng = np.random.default_rng(len(name))
    folder.mkdir(parents=True, exist_ok=True)
    cuts = []
    with NumpyHdf5Writer(folder / f"{name}.h5") as arrays:
        for number in range(count):
            path = folder / f"{name}{number:02d}.{('flac', 'wav', 'ogg')[number % 3]}"
            rate = (16000, 22050, 8000)[number // 3 % 3]
            wave = rng.normal(0, 0.1, (rate // 4 + 400 * (number % 7), 1 + number % 2))
            soundfile.write(path, wave, rate)
            cut = cut_of_file(path, path.stem, text=f"text {number}", custom={"labels": {}})
            if number % 9 == 8:
                cut = cut.truncate(offset=0.1, duration=0.125, preserve_id=True)
            ids = rng.integers(0, 512, 5 + number % 4).astype(np.int16)
            cut.tokens = arrays.store_array(
                cut.id, ids, frame_shift=0.04, temporal_dim=0, start=cut.start
            )
            cuts.append(cut)
    save_cuts(cuts, folder / f"{name}.jsonl.gz")
    return folder / f"{name}.jsonl.gz"


OPTIONS = SharOptions(shard_size=SIZE, seed=3, arrays=("tokens",))


@pytest.fixture(scope="module")
def shar(tmp_path_factory):
    """A manifest, and the Shar of it."""
    folder = tmp_path_factory.mktemp("shar")
    cuts = made(folder / "audio", "clip", CLIPS)
    write_shar(cuts, folder / "out", OPTIONS)
    return cuts, folder / "out"


def test_lhotse_reads_what_was_written(shar):
    cuts, folder = shar
    known = {cut.id: cut for cut in load_cuts(cuts)}
    found = list(CutSet.from_shar(in_dir=folder / "shards"))
    assert sorted(cut.id for cut in found) == sorted(known)
    assert [cut.id for cut in found] != sorted(known)
    for cut in found:
        source = known[cut.id]
        assert cut.supervisions[0].text == source.supervisions[0].text
        assert np.array_equal(cut.load_tokens(), source.load_tokens())
        heard, theirs = cut.load_audio(), source.load_audio()
        assert heard.shape == theirs.shape
        # Whole files are copied; of a part of an .ogg the decoder's floats become 24 bits.
        assert np.abs(heard - theirs).max() <= (2**-23 if source.start else 0.0)


def test_ours_and_lhotses_reading_agree(shar):
    cuts, folder = shar
    known = {cut.id: cut for cut in load_cuts(cuts)}
    listed = load_cuts(folder)
    assert len(list(listed)) == len(list(listed)) == CLIPS  # it may be read again
    for cut in listed:
        source = known[cut.id]
        exact = 0.0 if not source.start else 2e-7
        assert np.abs(load_audio(cut) - load_audio(source)).max() <= exact
        assert np.abs(first_channel(cut, 16000, "") - first_channel(source, 16000, "")).max() <= (
            exact
        )
        assert cut.recording.sources[0].type == "shar"  # the cut itself stays small


def test_shars_of_lhotse_are_read(shar, tmp_path):
    cuts = CutSet([cut for cut in load_cuts(shar[0]) if cut.sampling_rate == 16000])
    cuts.to_shar(tmp_path, fields={"recording": "flac"}, shard_size=5, warn_unused_fields=False)
    found = {cut.id: load_audio(cut) for cut in load_cuts(tmp_path)}
    assert len(found) == len(list(cuts)) > 5
    for cut in cuts:
        # Lhotse stores 16 bits, whatever the source has.
        assert np.abs(found[cut.id] - cut.load_audio().mean(axis=0)).max() < 2**-14


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


@pytest.mark.parametrize(("parts", "workers"), [(3, 1), (1, 2)])
def test_parts_and_processes_write_the_same_bytes(shar, tmp_path, parts, workers):
    cuts, folder = shar
    order_cuts(cuts, tmp_path, OPTIONS)
    for part in reversed(range(parts)):
        if part == 0:
            with pytest.raises(UASError, match="shard 000000 of .* is missing") as caught:
                join_parts(tmp_path)
            assert "write its part again" in str(caught.value)
        write_part(tmp_path, part, parts, workers)
    assert join_parts(tmp_path) == json.loads((folder / "info.json").read_text())
    assert bytes_of(tmp_path) == bytes_of(folder)


def test_killed_at_any_instant_it_goes_on(shar, tmp_path):
    cuts, folder = shar
    command = [
        *(sys.executable, "-m", "uas_plugin.cli", "export", "shar", "--cuts", cuts, "--seed", "3"),
        *("--shard_size", str(SIZE), "--arrays", "tokens", "--output_dir", tmp_path / "out"),
    ]
    marks = tmp_path / "out" / "marks"
    process = subprocess.Popen(command)
    while not any(marks.glob("*")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "info.json").exists()
    with pytest.raises(UASError, match="is unfinished: run `uas export shar` again"):
        load_cuts(tmp_path / "out")
    done = {path.name: path.stat().st_mtime_ns for path in marks.iterdir()}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert bytes_of(tmp_path / "out") == bytes_of(folder)
    assert all((marks / name).stat().st_mtime_ns == at for name, at in done.items())
    assert not list((tmp_path / "out").glob(".making*"))


def test_a_truncated_shard_is_written_again(shar, tmp_path):
    cuts, folder = shar
    shutil.copytree(folder, tmp_path / "out")
    archive = tmp_path / "out" / "shards" / "recording.000002.tar"
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UASError, match="shard 000002 of .* is missing"):
        join_parts(tmp_path / "out")
    with pytest.raises(UASError, match="is unfinished"):
        load_cuts(tmp_path / "out")
    write_shar(cuts, tmp_path / "out", OPTIONS)
    assert bytes_of(tmp_path / "out") == bytes_of(folder)


def test_faulty_recordings_are_named_counted_and_nothing_else_is_lost(tmp_path):
    cuts = made(tmp_path / "audio", "clip", 12)
    paths = [cut.recording.sources[0].source for cut in load_cuts(cuts)]
    Path(paths[1]).unlink()
    Path(paths[2]).write_bytes(b"no audio")
    soundfile.write(paths[4], np.full(9000, np.nan), 22050, subtype="FLOAT")
    info = write_shar(cuts, tmp_path / "out", SharOptions(shard_size=4))
    assert (info["cuts"], info["rejected"]) == (9, 3)
    cuts.touch()  # a new time alone makes nothing anew
    assert write_shar(cuts, tmp_path / "out", SharOptions(shard_size=4)) == info
    rows = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "rejected.jsonl")}
    assert set(rows) == {"clip01", "clip02", "clip04"}
    assert "no such file" in rows["clip01"] and "cannot be decoded" in rows["clip02"]
    assert "NaN" in rows["clip04"]
    assert len(list(CutSet.from_shar(in_dir=tmp_path / "out" / "shards"))) == 9


def test_what_cannot_be_written_is_said(shar, tmp_path):
    cuts, _ = shar
    with pytest.raises(UASError, match="a Shar is written of a cuts.jsonl.gz"):
        order_cuts(tmp_path / "none.jsonl.gz", tmp_path, OPTIONS)
    order_cuts(cuts, tmp_path / "out", OPTIONS)
    with pytest.raises(UASError, match="holds a Shar of other cuts or options"):
        order_cuts(cuts, tmp_path / "out", SharOptions(shard_size=2))
    with pytest.raises(UASError, match=r"order.jsonl.gz is missing"):
        write_part(tmp_path / "nothing")
    for name, message in [("../a", "cannot be the name"), ("/a", "cannot be the name")]:
        row = {**next(iter(load_cuts(cuts))).to_dict(), "id": name}
        with gzip.open(tmp_path / "bad.jsonl.gz", "wt") as stream:
            stream.write(json.dumps(row) + "\n")
        with pytest.raises(UASError, match=message):
            order_cuts(tmp_path / "bad.jsonl.gz", tmp_path / "bad", OPTIONS)
        shutil.rmtree(tmp_path / "bad")
    twice = [next(iter(load_cuts(cuts)))] * 2
    save_cuts(twice, tmp_path / "twice.jsonl.gz")
    with pytest.raises(UASError, match="the id clip00 stands there twice"):
        order_cuts(tmp_path / "twice.jsonl.gz", tmp_path / "twice", OPTIONS)


def archive_with(path: Path, members: list[tarfile.TarInfo]) -> None:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    found.size = 1 if kind == tarfile.REGTYPE else 0
    return found


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (member("../../etc/passwd"), "path out of it"),
        (member("/etc/passwd"), "path out of it"),
        (member("clip00.flac", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (member("clip00.flac", tarfile.LNKTYPE, "other"), "a link"),
        (member("clip00.flac", tarfile.FIFOTYPE), "no file"),
    ],
)
def test_archives_made_to_do_harm_are_refused(shar, tmp_path, first, message):
    shutil.copytree(shar[1], tmp_path / "out")
    archive = tmp_path / "out" / "shards" / "recording.000000.tar"
    archive_with(archive, [first, member("clip00.json")])
    cut = next(iter(load_cuts(tmp_path / "out")))
    with pytest.raises(UASError, match=f"{message}.*do not use this archive"):
        load_audio(cut)


def test_damaged_archives_are_named(shar, tmp_path):
    shutil.copytree(shar[1], tmp_path / "out")
    shards = tmp_path / "out" / "shards"
    archive = shards / "recording.000000.tar"
    whole = archive.read_bytes()
    cuts = list(load_cuts(tmp_path / "out"))[:SIZE]
    archive.write_bytes(whole[:5000])
    with pytest.raises(UASError, match="recording.000000.tar is damaged"):
        [load_audio(cut) for cut in cuts]
    archive.write_bytes(b"\x07" * 4096)
    with pytest.raises(UASError, match="recording.000000.tar is damaged"):
        load_audio(cuts[0])
    archive_with(archive, [member("other.flac"), member("other.json")])
    with pytest.raises(UASError, match="does not hold cut"):
        load_audio(cuts[0])
    archive.unlink()
    with pytest.raises(UASError, match="recording.000000.tar: cannot be read"):
        load_audio(cuts[0])
    for origin in (None, "/etc/passwd", str(shards / "cuts.jsonl.gz")):
        cuts[1].shard_origin = origin
        with pytest.raises(UASError, match="names no shard's cuts"):
            load_audio(cuts[1])
    manifest = shards / "cuts.000001.jsonl.gz"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(UASError, match="cuts.000001.jsonl.gz is damaged"):
        list(load_cuts(tmp_path / "out"))
    with pytest.raises(UASError, match="is no Shar"):
        load_cuts(tmp_path)


def stream(folder, positions, **options):
    given_ = {"max_duration": 1.5, "max_cut": 30.0, "num_buckets": 3, "seed": 5, **options}
    return SharStream(folder, positions=positions, **given_)


def ids(step) -> list[str]:
    return [cut.id for cut in step]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.data())
def test_going_on_from_any_step_gives_the_same_batches(
    shar, tmp_path_factory, count, kills, world, data
):
    folder, rank = tmp_path_factory.mktemp("positions"), data.draw(st.integers(0, world - 1))
    options = {"rank": rank, "world": world, "at_once": data.draw(st.integers(1, 3))}
    whole = stream(str(shar[1]), folder / "whole", **options)
    expected = [[ids(s) for s in whole.epoch(e, count)] for e in (1, 2, 3)]
    assert [len(epoch) for epoch in expected] == [count] * 3
    epoch, found = 1, {}
    for _ in range(kills):
        parts = stream(str(shar[1]), folder / "parts", **options)
        done = data.draw(st.integers(0, count))
        steps = parts.epoch(epoch, count)
        found[epoch] = [ids(next(steps)) for _ in range(done)]  # then it is killed
        again = stream(str(shar[1]), folder / "parts", **options)
        found[epoch] += [ids(s) for s in again.epoch(epoch, count, done)]
        if data.draw(st.booleans()) and epoch < 3:
            epoch += 1
    for number in range(epoch, 4):
        found[number] = [ids(s) for s in again.epoch(number, count)]
    assert [found[number] for number in (1, 2, 3)] == expected


def test_going_on_plans_one_turn_however_far_it_has_come(shar, tmp_path, monkeypatch):
    one = stream(str(shar[1]), tmp_path, at_once=1)
    list(one.epoch(1, 500))
    planned = []
    steps = SharStream.steps
    monkeypatch.setattr(SharStream, "steps", lambda s, turn: planned.append(turn) or steps(s, turn))
    next(stream(str(shar[1]), tmp_path, at_once=1).epoch(1, 500, done=490))
    next(stream(str(shar[1]), tmp_path, at_once=1).epoch(2, 500))
    assert len(planned) == 2 and min(planned) > 100


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_pass_shows_every_cut_once_over_all_processes(shar, tmp_path, world):
    streams = [stream(str(shar[1]), tmp_path, rank=r, world=world, at_once=1) for r in range(world)]
    turns = SHARDS // world
    per_rank = [[ids(s) for t in range(turns) for s in one.steps(t)] for one in streams]
    sets = [{name for step in steps for name in step} for steps in per_rank]
    assert sum(map(len, sets)) == len(set.union(*sets)) == CLIPS  # disjoint, and all of them
    second = [[ids(s) for t in range(turns, 2 * turns) for s in one.steps(t)] for one in streams]
    assert second != per_rank
    assert Counter(n for steps in second for step in steps for n in step) == Counter(
        n for names in sets for n in names
    )
    for steps in per_rank:
        assert all(len(step) for step in steps)


def test_batches_are_of_like_duration_and_not_too_long(shar, tmp_path):
    one = stream(str(shar[1]), tmp_path, at_once=3, max_duration=1.0)
    steps = [list(step) for turn in range(8) for step in one.steps(turn)]
    assert all(sum(cut.duration for cut in step) <= 1.0 + 0.6 for step in steps)
    spread = [max(c.duration for c in s) - min(c.duration for c in s) for s in steps if len(s) > 1]
    everything = [cut.duration for step in steps for cut in step]
    assert np.mean(spread) < 0.5 * (max(everything) - min(everything))
    short = stream(str(shar[1]), tmp_path, max_cut=0.3)
    found = [cut.duration for turn in range(8) for step in short.steps(turn) for cut in step]
    assert found and max(found) <= 0.3
    with pytest.raises(UASError, match="every item of every shard was left out"):
        next(stream(str(shar[1]), tmp_path, max_cut=0.01).epoch(1, 1))


def test_weights_are_shares_of_the_shards(shar, tmp_path):
    other = made(tmp_path / "audio", "other", 20)
    write_shar(other, tmp_path / "other", SharOptions(shard_size=5))
    named = [{"cuts": str(shar[1]), "weight": 3}, {"cuts": str(tmp_path / "other"), "weight": 1}]
    one = stream(named, tmp_path, at_once=1)
    drawn = [str(one.shard(n)).startswith(str(shar[1])) for n in range(128)]
    assert sum(drawn) == 96 and drawn[:64] != drawn[64:]
    count = {True: SHARDS, False: 4}
    for of_first in (True, False):  # within a corpus, passes
        shards = [one.shard(n) for n in range(128) if drawn[n] == of_first]
        begin = shards[: count[of_first]]
        assert len(set(begin)) == count[of_first]
    few = [{"cuts": str(shar[1]), "weight": 999}, {"cuts": str(tmp_path / "other"), "weight": 1}]
    with pytest.raises(UASError, match="too small a part of all"):
        stream(few, tmp_path)
    with pytest.raises(UASError, match=r"6 shards for 7 processes.*smaller shard_size"):
        stream(str(shar[1]), tmp_path, world=7)
    assert all_shar(named) and not all_shar(str(shar[0]))
    with pytest.raises(UASError, match="manifests and Shars cannot be mixed"):
        all_shar([{"cuts": str(shar[1])}, {"cuts": str(shar[0])}])


class Heard:
    """A dataset: ids, and how many samples each clip has."""

    def __getitem__(self, cuts):
        return [(cut.id, len(load_audio(cut))) for cut in cuts]


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_processes_share_the_batches(shar, tmp_path, workers):
    def run(number):
        one = stream(str(shar[1]), tmp_path / str(number))
        return list(loaded(Heard(), one.epoch(1, 9), number))

    alone, together = run(0), run(workers)
    assert alone == together and len(alone) == 9
    # The end of the epoch is known although nobody asked for a tenth batch.
    assert "2" in json.loads((tmp_path / "0" / "rank0.json").read_text())["begins"]


def test_the_command(shar, tmp_path, capsys):
    cuts, folder = shar
    (tmp_path / "c.yaml").write_text(f"shard_size: {SIZE}\nseed: 3\narrays: [tokens]\n")
    words = ["--cuts", str(cuts), "--config", str(tmp_path / "c.yaml")]
    export_shar([*words, "--output_dir", str(tmp_path / "out")])
    assert json.loads(capsys.readouterr().out)["cuts"] == CLIPS
    assert bytes_of(tmp_path / "out") == bytes_of(folder)
    (tmp_path / "c.yaml").write_text("shard_sice: 4\n")
    with pytest.raises(UASError, match="unknown key 'shard_sice'.*shard_size"):
        export_shar([*words, "--output_dir", str(tmp_path / "other")])
    for wrong in (["--step", "write", "--part", "2"], ["--step", "order"]):
        with pytest.raises(SystemExit):
            export_shar(["--output_dir", str(tmp_path / "other"), *wrong])
