"""``mbd attack`` and ``mbd revoke --attack``, as people and programs run them."""


def test_canaries_are_attacked_and_every_claim_holds(mbd):
    done = mbd("attack", "canaries", "--only", "exactness", "--only", "leaks", "--json")
    assert done.code == 0
    assert done.json["broken"] == 0
    assert {report["attack"] for report in done.json["reports"]} == {"exactness", "leaks"}
    assert {report["verdict"] for report in done.json["reports"]} == {"held"}
    assert all(report["question"].endswith("?") and report["seconds"] >= 0 for report in done.json["reports"])


def test_an_attack_that_does_not_exist_is_a_usage_error(mbd):
    done = mbd("attack", "canaries", "--only", "magic")
    assert done.code == 2
    assert "there is no attack magic; there are: distinguishing, exactness, one-run" in " ".join(done.err.split())


def test_a_withdrawal_is_attacked_for_people_and_nothing_changes(home, mbd, people):
    before = {path: path.read_bytes() for path in (home / "lines").rglob("*") if path.is_file()}
    done = mbd(
        "attack", "withdrawal", "--home", home, "--subject", people[0], "--modality", "audio", "--releases", "1000"
    )
    assert done.code == 0
    assert "All held. 6 attacks, no claim broken." in done.out
    assert "Nothing was changed." in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert {path: path.read_bytes() for path in (home / "lines").rglob("*") if path.is_file()} == before


def test_a_withdrawal_that_releases_nothing_says_what_can_be_attacked(home, mbd):
    done = mbd("attack", "withdrawal", "--home", home, "--everyone", "--modality", "audio")
    assert done.code == 1
    assert "nothing to attack" in " ".join(done.err.split())
    assert "mbd attack canaries" in done.err


def test_a_deletion_is_attacked_on_request(home, mbd, people):
    done = mbd("revoke", "--home", home, "--subject", people[1], "--modality", "audio", "--attack", "--json")
    assert done.code == 0
    found = [(report["attack"], report["verdict"]) for report in done.json["reports"]]
    names = ["exactness", *["distinguishing"] * 4, "membership", "relearning", "leaks"]
    assert found == [(name, "held") for name in names]


def test_one_attack_on_a_withdrawal_can_be_asked_for(home, mbd, people):
    asked = ["attack", "withdrawal", "--home", home, "--subject", people[0], "--modality", "audio", "--json"]
    done = mbd(*asked, "--only", "membership", "--worlds", "4")
    assert [report["attack"] for report in done.json["reports"]] == ["membership"]
    assert done.json["reports"][0]["details"]["worlds"] >= 4
    wrong = mbd(*asked, "--only", "leaks")
    assert wrong.code == 2
    assert "there is no attack leaks" in wrong.json["error"]["message"]
