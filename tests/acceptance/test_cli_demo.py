"""``mbd demo``: one JSON object that tells the whole story, and all of it is true."""

PATTERNS = {"t", "a", "v", "ta", "tv", "av", "tav"}


def test_the_demo_says_what_happened_and_all_of_it_is_true(demo):
    said = demo.json
    assert said["verified"] is True
    assert said["tampered_rejected"] is True
    assert (said["tampered_reason"]["step"], said["tampered_reason"]["code"]) == (3, "signature-invalid")
    assert said["statistics_equal"] is True
    assert said["weights_within_bound"] is True
    assert said["guarantee"]["class"] == "certified"
    assert said["deletion_seconds"] > 0
    assert said["refit_seconds"] > 0
    assert demo.bundle.is_file()
    assert demo.trusted_root.is_file()
    assert demo.err == ""


def test_the_demo_measures_every_availability_pattern_before_and_after(demo):
    before, after = demo.json["metrics_before"], demo.json["metrics_after"]
    assert set(before) == set(after) == PATTERNS
    for pattern in ("t", "v", "tv"):  # these heads never saw a voice
        assert before[pattern] == after[pattern]
    assert any(before[pattern] != after[pattern] for pattern in ("a", "ta", "av", "tav"))
    assert before["tav"]["mae"] < min(before[one]["mae"] for one in "tav")


def test_the_demo_shows_which_model_saw_the_voice_and_what_ended_it(demo):
    (seen,) = demo.json["lineage"]
    assert (seen["line"], seen["version"], seen["state"], seen["ended_by_version"]) == ("demo", 1, "retired", 2)
    assert seen["certificate"] == demo.bundle.parent.name


def test_a_second_demo_in_the_same_folder_is_refused(home, mbd):
    done = mbd("demo", "--home", home)
    assert done.code == 1
    assert f"There is a demo in {home} already." in done.err
    assert "--home" in done.err
