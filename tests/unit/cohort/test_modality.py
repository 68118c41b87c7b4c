import pytest

from mbd.cohort.modality import Modality, in_order, parse_modality, parse_pattern, pattern_name, subsets
from mbd.errors import CohortError

NAMES = ["t", "a", "v", "ta", "tv", "av", "tav"]


def test_the_subsets_of_three_modalities_have_one_order_and_one_name_each():
    assert [pattern_name(pattern) for pattern in subsets(reversed(list(Modality)))] == NAMES
    assert [parse_pattern(name) for name in NAMES] == list(subsets(Modality))


def test_order_does_not_depend_on_how_modalities_are_given():
    assert in_order(["vision", Modality.TEXT, Modality.VISION]) == (Modality.TEXT, Modality.VISION)


@pytest.mark.parametrize("name", ["", "x", "at", "tt", "text"])
def test_another_spelling_of_a_pattern_is_refused(name):
    with pytest.raises(CohortError, match="not an availability pattern"):
        parse_pattern(name)


def test_a_modality_is_known_by_its_full_name():
    assert parse_modality("audio") is Modality.AUDIO
    with pytest.raises(CohortError, match="'voice' is not a modality"):
        parse_modality("voice")
