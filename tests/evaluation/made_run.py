"""A made-up finished run in miniature: every file that scoring and the report read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import soundfile as sf

SOUNDS = ("dog bark", "rain", "siren", "bell")
MUSIC = ("piano", "drums")
CODES = 64
RATE = 16000


def _uas(text=None, gender=None, emotion=None, event=None) -> dict:
    vocal = None
    if text:
        vocal = {
            "age": "Adult", "gender": gender, "emotion": emotion,
            "accent": None, "prosody": "fast", "timbre": None,
        }  # fmt: skip
    events = [{"label": event, "characteristic": "loud"}] if event else []
    return {
        "transcription": text,
        "paralinguistics": vocal,
        "nonLinguisticEvents": {
            "description": event, "discreteEvents": events, "continuousEvents": [],
        },
    }  # fmt: skip


def _clip(split: str, n: int) -> tuple[dict, int]:
    """One clip (as the contract's cut) and the code its class prefers."""
    kind = ("speech", "sound", "music", "mix", "digits", "speech")[n % 6]
    labels: dict = {}
    text, language, event = "", None, None
    if kind in ("speech", "mix", "digits"):
        language = "zh" if n % 12 == 5 else "en"
        text = "打开 红灯。" if language == "zh" else f"Turn the lamp {n % 7} times, please."
        labels = {
            "gender": ("Female", "Male")[n % 4 // 2],
            "emotion": ("Neutral", "Anger", "Sadness")[n // 6 % 3],
            "age": "Adult",
        }
    if kind == "sound":
        event = labels["sound"] = SOUNDS[n // 6 % len(SOUNDS)]
    if kind == "music":
        event = labels["music"] = MUSIC[n // 6 % len(MUSIC)]
    if kind == "mix":
        event = labels["background"] = SOUNDS[n // 6 % len(SOUNDS)]
    code = (n // 6 % 4) * 8 + {"sound": 0, "music": 32}.get(kind, 48)
    uas = _uas(text or None, labels.get("gender"), labels.get("emotion"), event)
    custom = {
        "uas": uas, "kind": kind, "labels": labels,
        "unscored": ["gender"] if kind == "digits" else [],
    }  # fmt: skip
    name = f"{split}-{n:03d}"
    supervision = {
        "id": name, "recording_id": name, "start": 0.0, "duration": 0.5, "channel": 0,
        "text": text, "language": language, "speaker": f"s{n % 5}",
        "gender": labels.get("gender"), "custom": custom,
    }  # fmt: skip
    cut = {
        "id": name, "start": 0.0, "duration": 0.5, "channel": 0,
        "supervisions": [supervision], "type": "MonoCut",
    }  # fmt: skip
    return cut, code % CODES


def _jsonl(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _tone(path: Path, n: int, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(rate // 2) / rate
    sf.write(path, (0.3 * np.sin(2 * np.pi * (220 + 20 * n) * t)).astype(np.float32), rate)


class MadeRun:
    """Folders ``data``, ``dump`` and ``exp`` of one corpus below ``root``."""

    def __init__(self, root: Path, corpus: str = "mini", seed: int = 0) -> None:
        self.root, self.corpus = root, corpus
        self.data, self.dump, self.exp = (root / x / corpus for x in ("data", "dump", "exp"))
        self.rng = np.random.default_rng(seed)
        self.cuts: dict[str, list[dict]] = {}
        self._data()
        self._dumps()
        self._decodes()
        self._codec()
        self._conf()

    def _data(self) -> None:
        self.codes: dict[str, int] = {}
        for split, count in (("train", 96), ("dev", 12), ("test", 48)):
            self.cuts[split] = []
            for n in range(count):
                cut, code = _clip(split, n)
                audio = self.data / "audio" / split / f"{cut['id']}.flac"
                if split == "test":
                    _tone(audio, n)
                cut["recording"] = {
                    "id": cut["id"], "sampling_rate": RATE, "num_samples": RATE // 2,
                    "duration": 0.5, "channel_ids": [0],
                    "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
                }  # fmt: skip
                self.cuts[split].append(cut)
                self.codes[cut["id"]] = code
            _jsonl(self.data / split / "cuts.jsonl.gz", self.cuts[split])
            _jsonl(self.data / split / "rejected.jsonl", [])
        _jsonl(
            self.data / "train" / "rejected.jsonl",
            [{"id": "broken-1", "path": "broken-1.flac", "reason": "silent"}],
        )
        (self.data / "info.json").write_text(json.dumps({"seed": 0}), encoding="utf-8")

    def tokens_of(self, name: str, strength: float) -> list[int]:
        """Tokens around the class's code with ``strength``, anywhere otherwise."""
        near = (self.codes[name] + self.rng.integers(0, 6, 12)) % CODES
        far = self.rng.integers(0, CODES, 12)
        return np.where(self.rng.random(12) < strength, near, far).tolist()

    def _dumps(self) -> None:
        for tokenizer, strength in (("tokenizer", 0.9), ("tokenizer_untrained", 0.2)):
            for split in ("train", "dev", "test"):
                self.write_dump(self.dump / tokenizer / split, split, strength)

    def write_dump(self, folder: Path, split: str, strength: float) -> None:
        """A merged token dump (Kaldi text and info)."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for cut in self.cuts[split]:
            ids = self.tokens_of(cut["id"], strength)
            lines.append(f"{cut['id']} {' '.join(map(str, ids))}\n")
        (folder / "token").write_text("".join(lines), encoding="utf-8")
        info = {"codebook_size": CODES, "frame_rate": 25.0, "sampling_rate": RATE}
        (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")

    def reading(self, control: str, task: str = "uas", wrong_every: int = 5) -> list[dict]:
        """Rows of a reader that errs on every ``wrong_every``-th clip; controls read others."""
        cuts = self.cuts["test"]
        rows = []
        for n, cut in enumerate(cuts):
            shift = 0 if control == "none" and n % wrong_every else 7
            source = cuts[(n + shift) % len(cuts)]["supervisions"][0]
            uas = source["custom"]["uas"]
            text = json.dumps(uas, ensure_ascii=False) if task == "uas" else source["text"]
            rows.append({"id": cut["id"], "task": task, "control": control, "response": text})
        return rows

    def _decodes(self) -> None:
        folder = self.exp / "tokenizer" / "decode"
        _jsonl(folder / "test.jsonl", self.reading("none") + self.reading("none", "asr"))
        _jsonl(folder / "test_shuffled.jsonl", self.reading("shuffled"))
        _jsonl(folder / "recon.jsonl", self.reading("none", wrong_every=3))
        spoken = {c["id"] for c in self.cuts["test"] if c["supervisions"][0]["text"]}
        _jsonl(
            folder / "tts.jsonl",
            [row for row in self.reading("none", wrong_every=2) if row["id"] in spoken],
        )
        folder = self.exp / "audiollm" / "decode" / "test"
        for control in ("none", "shuffled", "no_audio"):
            _jsonl(folder / f"uas.{control}.jsonl", self.lm_rows(control, "uas"))
            _jsonl(folder / f"asr.{control}.jsonl", self.lm_rows(control, "asr"))
            _jsonl(folder / f"qa.{control}.jsonl", self.questions(control))
        rows = []
        for cut in self.cuts["test"]:
            if cut["id"] in spoken:
                gender = cut["supervisions"][0]["gender"]
                rows.append({
                    "id": cut["id"], "task": "tts", "control": "none", "response": "",
                    "prompt": f"gender: {gender}\nRead aloud: {cut['supervisions'][0]['text']}",
                    "item": {
                        "text": cut["supervisions"][0]["text"],
                        "attributes": {"gender": gender},
                    },
                    "tokens": self.tokens_of(cut["id"], 0.9),
                })  # fmt: skip
        _jsonl(folder / "tts.none.jsonl", rows)

    def lm_rows(self, control: str, task: str) -> list[dict]:
        """Reader's rows in the LM's format; its first answer is cut short (no valid JSON)."""
        rows = [{**row, "prompt": "?"} for row in self.reading(control, task)]
        if task == "uas":
            rows[0]["response"] = rows[0]["response"][:30]
        return rows

    def questions(self, control: str) -> list[dict]:
        """One 4-way question per sound clip; without audio the first option is always taken."""
        rows = []
        for n, cut in enumerate(self.cuts["test"]):
            labels = cut["supervisions"][0]["custom"]["labels"]
            if "sound" not in labels:
                continue
            choices = [SOUNDS[(n + k) % 4] for k in range(4)]
            answer = labels["sound"] if control == "none" else choices[0]
            item = {
                "question": "Which sound is heard?", "choices": choices,
                "answer": labels["sound"], "field": "sound",
            }  # fmt: skip
            rows.append({
                "id": cut["id"], "task": "qa", "control": control, "prompt": "?",
                "response": answer.upper(), "item": item,
            })  # fmt: skip
        return rows

    def _codec(self) -> None:
        folder = self.exp / "codec" / "decode"
        rows = []
        for n, cut in enumerate(self.cuts["test"]):
            _tone(folder / "test" / f"{cut['id']}.flac", n, 22050)
            rows.append({
                "id": cut["id"], "mel_l1": 0.5 + 0.001 * n, "mel_l2": 0.4,
                "mean_l1": 0.7, "mean_l2": 0.76, "waveform_l1": 0.55, "waveform_l2": 0.45,
                "seconds": 0.5, "num_tokens": 12,
            })  # fmt: skip
            if cut["supervisions"][0]["text"]:
                _tone(folder / "tts" / f"{cut['id']}.flac", n + 9, 22050)
        for name in ("test", "tts"):
            files = sorted((folder / name).glob("*.flac"))
            lines = "".join(f"{path.stem} {path}\n" for path in files)
            (folder / name / "wav.scp").write_text(lines, encoding="utf-8")
        _jsonl(folder / "test" / "metrics.jsonl", rows)

    def _conf(self) -> None:
        conf = self.exp / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "data.yaml").write_text("seed: 3\n", encoding="utf-8")
        (conf / "tokenizer.yaml").write_text("seed: 0\nmax_epoch: 4\n", encoding="utf-8")
        (conf / "score.yaml").write_text(
            "seed: 0\nbootstrap_resamples: 50\ncluster_seeds: 2\n"
            f"targets: {{{self.corpus}: {{tokenizer: {{gender: 0.5, wer_en: 0.01}}}}}}\n",
            encoding="utf-8",
        )
        (conf / "report.yaml").write_text("examples: 1\n", encoding="utf-8")

    def load_tokenizer(self, **facts: str | int | bool) -> None:
        """Make the tokenizer a loaded one by what its dump says.

        Everything else stays, as it does where a run of a trained tokenizer was here before.
        """
        for split in ("train", "dev", "test"):
            path = self.dump / "tokenizer" / split / "info.json"
            info = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**info, "pretrained": facts}), encoding="utf-8")

    def ablation(self, name: str) -> Path:
        """An ablation: a tokenizer's dump of the test set and its decoding."""
        folder = self.exp / "ablations" / name
        self.write_dump(folder / "dump" / "tokenizer" / "test", "test", 0.5)
        _jsonl(folder / "tokenizer" / "decode" / "test.jsonl", self.reading("none", wrong_every=2))
        return folder

    def events(self) -> None:
        """Tensorboard events as ESPnet's trainer writes them."""
        from torch.utils.tensorboard import SummaryWriter

        for part in ("tokenizer", "codec", "audiollm"):
            for mode in ("train", "valid"):
                with SummaryWriter(str(self.exp / part / "tensorboard" / mode)) as writer:
                    for epoch in range(1, 5):
                        writer.add_scalar("loss", 4.0 / epoch + (mode == "valid"), epoch)
                        writer.add_scalar("codebook_usage", 0.2 * epoch, epoch)

    def score_arguments(self) -> list[str]:
        """Command line of ``bin.score``."""
        return [
            "--config", str(self.exp / "conf" / "score.yaml"), "--data_dir", str(self.data),
            "--dump_dir", str(self.dump), "--exp_dir", str(self.exp),
            "--output_dir", str(self.exp / "score"),
        ]  # fmt: skip
