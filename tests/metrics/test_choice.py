from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.metrics.choice import LETTERS, answer_letter, choice_letter, prior_letter

OPTIONS = ["dog bark", "rain", "heavy rain", "Siren"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("rain", "B"),
        ("  'Heavy  rain.' ", "C"),
        ("siren", "D"),
        ("B", "B"),
        ("(c)", "C"),
        ("D.", "D"),
        ("A. dog bark", "A"),
        ("It is a siren, I think", "D"),
        ("a heavy rain", None),  # names two options: rain and heavy rain
        ("dog bark or siren", None),
        ("E", None),
        ("", None),
        ("trains", None),
        ("B. siren song of the sea", "D"),
    ],
)
def test_text_to_letter(response, letter):
    assert choice_letter(response, OPTIONS) == letter


@given(st.lists(st.text("abcdefgh ", min_size=2), min_size=2, max_size=6, unique_by=str.strip))
def test_every_option_names_itself_wherever_it_stands(options):
    plain = [" ".join(x.split()) for x in options]
    for index, option in enumerate(options):
        if plain.count(plain[index]) == 1 and plain[index]:
            assert choice_letter(option, options) == LETTERS[index]


@given(st.permutations(OPTIONS))
def test_order_of_options_does_not_change_what_is_chosen(options):
    assert options[LETTERS.index(choice_letter("siren", options))] == "Siren"


def test_answers_and_priors():
    assert answer_letter("rain", OPTIONS) == "B"
    assert answer_letter("d", OPTIONS) == "D"
    with pytest.raises(ValueError, match="none of"):
        answer_letter("wind", OPTIONS)
    assert prior_letter(OPTIONS, Counter({"rain": 3, "Siren": 1})) == "B"
    assert prior_letter(OPTIONS, Counter()) == "A"
