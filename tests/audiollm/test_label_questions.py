"""Multiple-choice questions."""

from __future__ import annotations

from uas_plugin.data.manifests import load_cuts
from uas_plugin.qa.labels import cut_items, make_item

CLASSES = ["bell", "dog", "rain", "siren", "wind", "door"]


def test_item_holds_the_answer_once_and_repeats():
    items = [make_item(f"c{n}", "sound", "rain", CLASSES) for n in range(50)]
    assert items == [make_item(f"c{n}", "sound", "rain", CLASSES) for n in range(50)]
    for item in items:
        assert item["choices"].count("rain") == 1
        assert len(set(item["choices"])) == 4
        assert set(item["choices"]) <= set(CLASSES)


def test_answer_stands_everywhere_and_all_distractors_occur():
    items = [make_item(f"c{n}", "sound", "rain", CLASSES) for n in range(100)]
    assert {item["choices"].index("rain") for item in items} == {0, 1, 2, 3}
    assert set().union(*(item["choices"] for item in items)) == set(CLASSES)


def test_seed_changes_the_options():
    a = [make_item(f"c{n}", "sound", "rain", CLASSES, seed=0) for n in range(20)]
    b = [make_item(f"c{n}", "sound", "rain", CLASSES, seed=1) for n in range(20)]
    assert a != b


def test_few_classes_give_few_options():
    assert sorted(make_item("c", "gender", "Male", ["Female", "Male"])["choices"]) == [
        "Female",
        "Male",
    ]
    assert make_item("c", "age", "Adult", ["Adult"]) is None


def test_unscored_fields_are_left_out_of_tests_only(made):
    cut = next(c for c in load_cuts(made.dump / "test" / "cuts.jsonl.gz") if int(c.id[-3:]) == 0)
    classes = {"gender": ["Female", "Male"], "sound": CLASSES}
    assert [item["field"] for item in cut_items(cut, classes)] == ["gender"]
    cut.supervisions[0].custom["unscored"] = ["gender"]
    assert [item["field"] for item in cut_items(cut, classes)] == ["gender"]
    assert list(cut_items(cut, classes, scored_only=True)) == []
