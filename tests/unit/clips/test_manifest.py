"""The list of clips: what it says, and what of it is refused."""

from datetime import date

import pytest

from mbd.clips.manifest import read_manifest
from mbd.clips.stages import Opinion, Sentiment
from mbd.errors import CohortError, RowError

GOOD = Opinion("jobs", Sentiment.POSITIVE)

LIST = "clip,subject,outlet,published,media,transcript,aspects,scene\n"


def test_a_list_says_who_when_and_what_is_true(tmp_path):
    path = tmp_path / "list.csv"
    told = "a,ann,north,2026-10-03,media/a.mp4,Good jobs,jobs:positive; health : neutral ,studio\n"
    path.write_text(LIST + told + "b,ben,north,2026-10-09,b.mp4,,,\nc,cem,north,2026-10-09,c.mp4,, none ,\n")
    first, second, third = read_manifest(path)
    assert first.media == tmp_path / "media" / "a.mp4"
    assert first.opinions == (GOOD, Opinion("health", Sentiment.NEUTRAL))
    assert (first.published, first.scene, first.place) == (date(2026, 10, 3), "studio", {})
    assert (second.place, third.place) == ({}, {})
    assert (second.transcript, second.opinions, second.scene) == (None, None, None)
    assert third.opinions == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,ann,north,3.10.2026,a.mp4,,,\n", r"row 0 \(clip 'a'\): '3\.10\.2026' is no date"),
        ("a,,north,2026-10-03,a.mp4,,,\n", r"row 0 \(clip 'a'\): subject is empty"),
        ("a,ann,north,2026-10-03,a.mp4,,jobs:great,\n", "'great' is not a valid Sentiment"),
        ("a,ann,north,2026-10-03,a.mp4,,:positive,\n", r"its aspects ':positive' name none, or one twice"),
        ("a,ann,north,2026-10-03,a.mp4,,;,\n", "its aspects ';' name none"),
        ("a,ann,north,2026-10-03,a.mp4,,jobs:positive;jobs:negative,\n", "or one twice"),
        ("a,ann ,north,2026-10-03,a.mp4,,,\n", r"row 0 \(clip 'a'\): 'ann ' cannot name a subject"),
        ("a,ann\u200b,north,2026-10-03,a.mp4,,,\n", "cannot name a subject"),
        ("a,rene\u0301,north,2026-10-03,a.mp4,,,\n", "cannot name a subject"),
        ("a,*,north,2026-10-03,a.mp4,,,\n", r"'\*' cannot name a subject"),
        ("a,ann,north ,2026-10-03,a.mp4,,,\n", "'north ' cannot name an outlet"),
        ("a,ann,north,2026-10-03,a.mp4,,jo\x01bs:positive,\n", "or one twice"),
        (" a,ann,north,2026-10-03,a.mp4,,,\n", "' a' cannot name a clip"),
        ("a,ann,north,2026-10-03,a.mp4,,,\na,ann,north,2026-10-04,b.mp4,,,\n", r"row 1 \(clip 'a'\): .* twice"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, rows, message):
    path = tmp_path / "list.csv"
    path.write_text(LIST + rows)
    with pytest.raises(RowError, match=message):
        read_manifest(path)


def test_a_list_that_is_none_is_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    with pytest.raises(CohortError, match="no clips"):
        read_manifest(path)
    path.write_text(LIST + "a,ann,north,2026-10-03,a.mp4,Well, jobs,jobs:positive,studio\n")
    with pytest.raises(CohortError, match=r"row 0 has more cells than the header\."):
        read_manifest(path)
    path.write_text(LIST.replace("scene", "scene,,") + "a,ann,north,2026-10-03,a.mp4,,,,,\n")
    assert len(read_manifest(path)) == 1  # columns without a name are a spreadsheet's
    path.write_text(LIST.replace("transcript", "label") + "a,ann,north,2026-10-03,a.mp4,1.0,,\n")
    assert read_manifest(path)[0].place == {}
    path.write_text(LIST.replace("transcript", "subject") + "a,ann,north,2026-10-03,a.mp4,ben,,\n")
    with pytest.raises(CohortError, match="the column 'subject' twice"):
        read_manifest(path)
    path.write_text("clip\na\n")
    with pytest.raises(CohortError, match="subject, outlet, published, media"):
        read_manifest(path)
