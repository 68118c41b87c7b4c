from mbd.records.suppression import EVERYONE, Channel, Suppressions


def test_a_suppressed_channel_is_covered_and_its_neighbours_are_not() -> None:
    listed = Suppressions(frozenset({Channel("anna", "audio")}))
    assert listed.covers(Channel("anna", "audio"))
    assert not listed.covers(Channel("anna", "text"))
    assert not listed.covers(Channel("ben", "audio"))


def test_a_modality_suppressed_for_everyone_covers_everyone() -> None:
    listed = Suppressions(frozenset({Channel(EVERYONE, "audio")}))
    assert listed.covers(Channel("anna", "audio"))
    assert listed.covers(Channel(EVERYONE, "audio"))
    assert not listed.covers(Channel("anna", "text"))
