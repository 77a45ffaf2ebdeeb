"""Parts of run.sh: options, section files, locks, the monitor, resuming or beginning anew."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from uas_plugin.bin.fresh import RECORD, freshen
from uas_plugin.config.compose import choices
from uas_plugin.errors import UASError
from uas_plugin.evaluation.study_table import ARMS
from uas_plugin.recipe.folders import Run
from uas_plugin.recipe.lock import JOBS_LOCK, RUN_LOCK, clear_stale, is_running, only_run
from uas_plugin.recipe.monitor import Monitor, human_time, tail
from uas_plugin.recipe.options import parse
from uas_plugin.recipe.prepare import for_snakemake, prepare, write, written
from uas_plugin.recipe.run import main as run_sh
from uas_plugin.recipe.stages import STAGES, check_needs, select, stage_of_rule, stages_of

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs" / "mini" / "uas1"
GROUPS = ("tokenizer", "codec", "lm")


def places(folder: Path) -> dict[str, str]:
    return {f"{name}dir": str(folder / name) for name in ("data", "dump", "exp")}


# --- options -------------------------------------------------------------------------------------


def test_options_of_both_manners() -> None:
    options = parse(
        ["--stage", "3", "--stop-stage=4", "tokenizer=x", "--dry_run", "a.b=1", "--lm_config", "f"],
        GROUPS,
    )
    assert options.number("stage", 1) == 3 and options.number("stop_stage", 10) == 4
    assert options.overrides == ["tokenizer=x", "a.b=1"]
    assert options.flag("dry_run") and not options.flag("force")
    assert options.files == {"lm": "f"}


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--stag", "3"], "unknown option '--stag'. Did you mean '--stage'"),
        (["--tokeniser_config", "f"], "Did you mean '--tokenizer_config'"),
        (["--stage"], "--stage needs a value"),
        (["--corpus", "--stage", "1"], "--corpus needs a value"),
        (["--stage", "two"], "--stage must be a whole number, not 'two'"),
        (["--force", "maybe"], "--force must be true or false, not 'maybe'"),
        (["nonsense"], "'nonsense' is neither an option"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], expected: str) -> None:
    with pytest.raises(UASError) as caught:
        parse(words, GROUPS)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_run_sh_prints_one_line_and_exits_2() -> None:
    for words, expected in (
        (["--stag", "3"], "Did you mean '--stage'?"),
        (["trainer.max_stepz=1"], "Did you mean 'trainer.max_steps'?"),
        (["--corpus", "realmini"], "needs --corpus_dir"),
    ):
        command = [str(RECIPE / "run.sh"), *words]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1 and expected in result.stderr
    helped = subprocess.run([str(RECIPE / "run.sh"), "--help"], capture_output=True, text=True)
    assert helped.returncode == 0 and "--stop_stage" in helped.stdout


# --- stages --------------------------------------------------------------------------------------


def test_a_stage_names_the_stage_that_makes_its_input(tmp_path: Path) -> None:
    run, _ = prepare(RECIPE, **places(tmp_path))
    with pytest.raises(
        UASError, match=r"stage 5 .* which stage 1 \(data\) makes: run.sh --stage 1"
    ):
        check_needs(run, select(5, 5))
    check_needs(run, select(1, 10))
    for template in STAGES[0].makes:
        path = Path(run.fill(template))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UASError, match=r"needs .*bpe.model, which stage 2"):
        check_needs(run, select(3, 4))
    check_needs(run, select(2, 4))


def test_no_such_stage() -> None:
    for first, last in ((0, 3), (11, 11), (5, 4)):
        with pytest.raises(UASError, match="stages are 1 to 10"):
            select(first, last)


def test_stages_of_a_pretrained_tokenizer(tmp_path: Path) -> None:
    trained, _ = prepare(RECIPE, **places(tmp_path))
    run, _ = prepare(RECIPE, overrides=["tokenizer=mimi"], **places(tmp_path))
    assert stages_of(trained) == STAGES and stages_of(trained, select(2, 3)) == select(2, 3)
    stages = stages_of(run)
    assert [stage.number for stage in stages] == [stage.number for stage in STAGES]
    assert stages_of(run, select(3, 3))[0].rules == ("tokenizer_pretrained",)
    known = stage_of_rule()
    for stage in (*STAGES, *stages):
        assert all(known[rule].number == stage.number for rule in stage.rules)
    # Loading needs no data; what reads its tokens names the stage that loads it.
    check_needs(run, stages_of(run, select(3, 3)))
    with pytest.raises(UASError, match=r"stage 3 .* which stage 1 \(data\)"):
        check_needs(trained, select(3, 3))
    for template in STAGES[0].makes:
        path = Path(run.fill(template))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UASError, match=r"needs .*, which stage 3 \(pretrained tokenizer\) makes"):
        check_needs(run, stages_of(run, select(4, 4)))
    for stage in stages[:8]:
        for template in stage.makes:
            path = Path(run.fill(template))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    check_needs(run, stages_of(run, select(9, 10)))
    with pytest.raises(UASError, match=r"tokenizer/decode/done, which stage 8"):
        check_needs(trained, select(9, 10))


def test_stages_of_a_run_that_trains_its_vocoder(tmp_path: Path) -> None:
    for others in ([], ["tokenizer=mimi"]):
        plain, _ = prepare(RECIPE, overrides=others, **places(tmp_path))
        run, texts = prepare(RECIPE, overrides=[*others, "vocoder=hift_small"], **places(tmp_path))
        assert run.trained_vocoder and not plain.trained_vocoder
        differing = [a for a, b in zip(stages_of(run), stages_of(plain), strict=True) if a != b]
        assert [stage.number for stage in differing] == [5]
        assert differing[0].rules == ("codec_train", "vocoder_train", "codec_export")
        assert stages_of(run, select(5, 5)) == tuple(differing)
        assert "discriminator_conf" in texts[Path("vocoder.yaml")]


# --- section files -------------------------------------------------------------------------------


def test_only_changed_sections_are_rewritten(tmp_path: Path) -> None:
    run, texts = prepare(RECIPE, **places(tmp_path))
    assert {path.stem for path in write(run, texts)} == {name.stem for name in texts} | {"run"}
    times = {path: path.stat().st_mtime_ns for path in Path(run.conf).iterdir()}
    assert write(*prepare(RECIPE, **places(tmp_path))) == {}
    changed = write(*prepare(RECIPE, overrides=["score.seed=9"], **places(tmp_path)))
    assert {path.name for path in changed} == {"score.yaml", "run.json"}
    for path, mtime in times.items():
        assert (path.stat().st_mtime_ns == mtime) == (path.name not in ("score.yaml", "run.json"))


def test_a_dry_run_leaves_no_trace(tmp_path: Path) -> None:
    run, texts = prepare(RECIPE, **places(tmp_path))
    write(run, texts)

    def state() -> dict[str, tuple[bytes, int]]:
        files = Path(run.conf).iterdir()
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in files if p.is_file()}

    before = state()
    other, texts = prepare(RECIPE, overrides=["score.seed=9"], **places(tmp_path))
    with written(other, texts, keep=False):
        assert state() != before
    assert state() == before


def tokenizer_files(run: Run) -> set[str]:
    return {path.stem for path in Path(run.conf).glob("*.yaml")} & {
        "tokenizer_align", "tokenizer", "codebook", "tokenizer_pretrained",
    }  # fmt: skip


def test_a_tokenizer_is_trained_or_loaded_and_going_back_is_a_change(tmp_path: Path) -> None:
    trained, texts = prepare(RECIPE, overrides=[], **places(tmp_path))
    write(trained, texts)
    loaded, other_texts = prepare(RECIPE, overrides=["tokenizer=mimi"], **places(tmp_path))
    assert loaded.pretrained and not trained.pretrained

    def state() -> dict[str, tuple[bytes, int]]:
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(run.conf).iterdir()}

    run = trained
    before = state()
    with written(loaded, other_texts, keep=False):
        assert tokenizer_files(loaded) == {"tokenizer_pretrained"}
    assert state() == before, "a dry run puts back what it removed"
    write(loaded, other_texts)
    assert tokenizer_files(loaded) == {"tokenizer_pretrained"}
    assert Run.load(loaded.conf).pretrained
    assert write(loaded, other_texts) == {}
    changed = {path.stem for path in write(trained, texts)}
    assert {"tokenizer_align", "tokenizer", "codebook", "tokenizer_pretrained"} <= changed
    assert tokenizer_files(trained) == {"tokenizer_align", "tokenizer", "codebook"}


def test_a_pretrained_tokenizer_has_no_ablations(tmp_path: Path) -> None:
    asked = ["tokenizer=mimi", "ablations=[ablation/no_ctc]"]
    run, texts = prepare(RECIPE, overrides=asked, **places(tmp_path))
    assert run.ablations == () and not any("ablations" in name.parts for name in texts)
    with pytest.raises(UASError, match="ablations: tokenizer 'mimi' is loaded, not trained"):
        prepare(RECIPE, overrides=["ablations=[mimi]"], **places(tmp_path))


def test_arms_of_the_study_compose(tmp_path: Path) -> None:
    arms = [name for name in choices(RECIPE, "lm") if name.startswith("study/")]
    overrides = [f"lm_study.arms=[{','.join(arms)}]", "lm_study.seeds=[3,5]", "lm=uas_audio_7b"]
    run, texts = prepare(RECIPE, overrides=overrides, **places(tmp_path))
    assert run.study_seeds == (3, 5) and set(run.lm_study) == set(ARMS)
    sections = {
        arm: {
            name: yaml.safe_load(texts[Path("lm_study") / arm / f"{name}.yaml"])
            for name in ("lm_data", "audiollm", "decode")
        }
        for arm in run.lm_study
    }
    full = sections["uas_qa"]
    mixtures = {arm: found["audiollm"]["batch_conf"]["mixture"] for arm, found in sections.items()}
    shown = {arm: {task for task, weight in m.items() if weight} for arm, m in mixtures.items()}
    assert shown == {
        "uas_qa": {"uas", "qa", "asr"}, "no_uas": {"qa", "asr"}, "no_qa": {"uas", "asr"},
        "asr": {"asr"}, "no_audio": {"uas", "qa", "asr"},
        "continuous_untrained": {"uas", "qa", "asr"}, "continuous_joint": {"uas", "qa", "asr"},
    }  # fmt: skip
    for arm, found in sections.items():
        assert found["lm_data"]["audio"] == (arm != "no_audio")
        assert found["decode"]["controls"] == ["no_audio" if arm == "no_audio" else "none"]
        assert found["decode"]["tasks"] == ["qa"] and found["decode"]["likelihood"]
        # One budget for all, and the same model of language.
        training = {k: v for k, v in found["audiollm"].items() if k.endswith("_conf") is False}
        assert training == {k: full["audiollm"][k] for k in training}
        model = found["audiollm"]["model_conf"]
        assert full["audiollm"]["model_conf"].items() <= model.items()
        assert (model.get("audio_input") == "continuous") == arm.startswith("continuous")
    assert sections["continuous_joint"]["audiollm"]["model_conf"]["stage"] == "joint"
    assert "stage" not in sections["continuous_untrained"]["audiollm"]["model_conf"]
    # The run's own model is another matter.
    assert "backbone" in yaml.safe_load(texts[Path("audiollm.yaml")])["model_conf"]


def test_a_folder_of_a_pretrained_tokenizer_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Snakemake works in the repository, whatever the folder that run.sh was called from."""
    model = tmp_path / "it's a model"
    model.mkdir()
    monkeypatch.chdir(tmp_path)
    seen: list[Run] = []
    monkeypatch.setattr("uas_plugin.recipe.run.snakemake_command", lambda run, *_: seen.append(run))
    monkeypatch.setattr("uas_plugin.recipe.run.execute", lambda *_: None)
    folders = [f"--{name}={path}" for name, path in places(tmp_path).items()]
    word = f'tokenizer.pretrained.model="{model.name}"'
    run_sh([str(RECIPE), "tokenizer=pretrained_folder", word, *folders])
    section = (Path(seen[0].conf) / "tokenizer_pretrained.yaml").read_text()
    assert yaml.safe_load(section)["model"] == str(model)
    monkeypatch.chdir(ROOT)
    again, texts = prepare(RECIPE, **places(tmp_path))
    assert texts[Path("tokenizer_pretrained.yaml")] == section and again.pretrained
    # A name that is no folder stays a hub name.
    run_sh([str(RECIPE), "tokenizer=mimi", "tokenizer.pretrained.model=kyutai/other", *folders])
    section = (Path(seen[1].conf) / "tokenizer_pretrained.yaml").read_text()
    assert yaml.safe_load(section)["model"] == "kyutai/other"


def test_a_run_does_not_load_the_tokenizer_that_it_writes_over(tmp_path: Path) -> None:
    export = tmp_path / "exp" / "mini" / "tokenizer" / "export"
    export.mkdir(parents=True)
    chosen = ["tokenizer=pretrained_folder", f"tokenizer.pretrained.model={export}"]
    with pytest.raises(UASError, match="give another --expdir"):
        prepare(RECIPE, overrides=chosen, **places(tmp_path))
    other = {**places(tmp_path), "expdir": str(tmp_path / "other")}
    assert prepare(RECIPE, overrides=chosen, **other)[0].pretrained


def test_a_bare_snakemake_goes_on_with_the_overrides_of_run_sh(tmp_path: Path) -> None:
    write(
        *prepare(
            RECIPE, overrides=["score.seed=9", "tokenizer.dump.num_shards=3"], **places(tmp_path)
        )
    )
    run = for_snakemake(places(tmp_path))
    assert run.overrides == ("score.seed=9", "tokenizer.dump.num_shards=3") and run.shards == 3
    assert for_snakemake({**places(tmp_path), "overrides": ""}).overrides == ()
    assert for_snakemake({"conf": str(run.conf)}).shards != 3
    with open(Path(run.exp) / RUN_LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        again = for_snakemake({**places(tmp_path), "overrides": "tokenizer.dump.num_shards=7"})
    assert again.shards != 7, "a look at a live run does not change its configuration"


def test_other_sizes_have_folders_of_their_own() -> None:
    smoke, _ = prepare(RECIPE, size="smoke")
    full, _ = prepare(RECIPE)
    assert (full.exp, full.results) == ("egs/mini/uas1/exp/mini", "egs/mini/uas1/RESULTS.md")
    assert smoke.exp == "egs/mini/uas1/exp/smoke/mini"
    assert smoke.results == "egs/mini/uas1/exp/smoke/RESULTS.md"


def test_a_corpus_of_ones_own(tmp_path: Path) -> None:
    run, texts = prepare(RECIPE, corpus="mine", corpus_dir="/some/where's it", **places(tmp_path))
    assert Path(run.exp).name == Path(run.data).name == "mine"
    assert "/some/where's it" in texts[Path("data.yaml")].replace("''", "'")
    with pytest.raises(UASError, match="unknown corpus 'mine2'"):
        prepare(RECIPE, corpus="mine2", **places(tmp_path))


# --- locks ---------------------------------------------------------------------------------------


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with only_run(tmp_path):
        assert is_running(tmp_path)
        script = (
            "from pathlib import Path; from uas_plugin.recipe.lock import only_run;"
            f"only_run(Path({str(tmp_path)!r})).__enter__()"
        )
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "another run of" in result.stderr and str(os.getpid()) in result.stderr
    assert not is_running(tmp_path)
    with only_run(tmp_path):
        pass


def test_a_job_that_outlived_its_run_is_seen(tmp_path: Path) -> None:
    (tmp_path / JOBS_LOCK).touch()
    command = ["flock", "-s", str(tmp_path / JOBS_LOCK), "sleep", "30"]
    holder = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with only_run(tmp_path):
                    time.sleep(0.05)
            except UASError as error:
                assert "still alive" in str(error)
                break
        else:
            pytest.fail("the job's lock was not noticed")
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    # flock's child holds the lock too, until it is gone.
    subprocess.run(["flock", "-w", "10", str(tmp_path / JOBS_LOCK), "true"], check=True)
    with only_run(tmp_path):
        pass


def test_only_stale_locks_of_this_run_are_removed(tmp_path: Path) -> None:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("exp/mini/a\n")
    (locks / "0.output.lock").write_text("data/mini/b\nexp/mini/b\n")
    (locks / "1.output.lock").write_text("exp/mini2/b\n")
    assert clear_stale(tmp_path, ["exp/mini", "data/mini"]) == 2
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


# --- resuming or beginning anew ------------------------------------------------------------------


def test_fresh_keeps_what_the_same_inputs_began(tmp_path: Path) -> None:
    config, folder = tmp_path / "a.yaml", tmp_path / "exp"
    config.write_text("a: 1\n")
    assert not freshen(folder, [config])
    (folder / "export").mkdir()
    (folder / "export" / "checkpoint").write_text("half")
    os.utime(config)
    assert freshen(folder, [config]) and (folder / "export" / "checkpoint").exists()
    config.write_text("a: 2\n")
    assert not freshen(folder, [config])
    assert [path.name for path in folder.iterdir()] == [RECORD]


def test_fresh_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = tmp_path / "a.yaml", tmp_path / "exp"
    config.write_text("a: 1\n")
    freshen(folder, [config])
    (folder / "checkpoint").write_text("half")
    monkeypatch.setenv("UAS_FRESH", "true")
    assert not freshen(folder, [config]) and not (folder / "checkpoint").exists()


def test_fresh_refuses_files_of_another_origin(tmp_path: Path) -> None:
    config, folder = tmp_path / "a.yaml", tmp_path / "exp"
    config.write_text("a: 1\n")
    (folder / "empty").mkdir(parents=True)
    freshen(folder, [config])
    (folder / RECORD).unlink()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UASError, match="files of another origin"):
        freshen(folder, [config])
    assert (folder / "thesis.txt").read_text() == "mine"
    with pytest.raises(UASError, match="cannot read input"):
        freshen(tmp_path / "new", [tmp_path / "none"])


# --- progress ------------------------------------------------------------------------------------

OUTPUT = """\
Building DAG of jobs...
[Fri Nov 20 23:26:18 2026]
rule text:
    input: x
    log: logs/text.log
    jobid: 2
    wildcards: set=train
    threads: 2

[Fri Nov 20 23:26:18 2026]
rule data:
    log: logs/data.log
    jobid: 3

[Fri Nov 20 23:26:19 2026]
Finished jobid: 2 (Rule: text)
1 of 3 steps (33%) done
[Fri Nov 20 23:26:19 2026]
Error in rule data:
    jobid: 3
    log: logs/data.log (check log file(s) for error details)
    shell:
        false

"""


def test_monitor_tells_starts_ends_and_failures(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "data.log").write_text("a\nerror: disk full\n\n")
    out, log = io.StringIO(), io.StringIO()
    monitor = Monitor(tmp_path, log, out)
    monitor.watch(OUTPUT.splitlines(keepends=True))
    monitor.report_failures()
    lines = [line[9:] for line in out.getvalue().splitlines()]
    assert lines[0] == "stage  2  text [set=train] started   (log: logs/text.log)"
    assert lines[1] == "stage  1  data started   (log: logs/data.log)"
    assert lines[2].startswith("stage  2  text [set=train] done in 0 s")
    assert lines[3] == "stage  1  data FAILED; the end of logs/data.log:"
    assert "error: disk full" in out.getvalue()
    assert log.getvalue() == OUTPUT


def test_tail_and_times(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n\ntwo 10%\rtwo 20%\nthree\n")
    assert tail(path, 2) == ["two 20%", "three"]
    assert tail(tmp_path / "none", 2) == []
    assert [human_time(s) for s in (0.4, 59.6, 200, 3725)] == [
        "0 s",
        "1 min 00 s",
        "3 min 20 s",
        "1 h 02 min",
    ]


def test_run_json_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": "x", "colour": "red"}')
    with pytest.raises(UASError, match="cannot be read"):
        Run.load(tmp_path)
    with pytest.raises(UASError, match="start the run with run.sh"):
        Run.load(tmp_path / "none")
