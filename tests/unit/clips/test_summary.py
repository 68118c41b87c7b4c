"""Sums by outlet and month: right, and of nobody alone."""

from dataclasses import replace

from mbd.clips.stages import Opinion, Sentiment
from mbd.clips.summary import aspects_of, draw, figure_of, rows_of, summarise, to_json

GOOD, BAD = Opinion("jobs", Sentiment.POSITIVE), Opinion("jobs", Sentiment.NEGATIVE)
HEALTH = Opinion("health", Sentiment.NEUTRAL)


def test_months_of_an_outlet_are_summed_and_those_of_few_people_left_out(clips, make_reading):
    readings = [
        make_reading(clips[0], opinions=(GOOD,), scene="studio"),
        make_reading(clips[1], opinions=(GOOD, HEALTH), scene="studio"),
        make_reading(clips[2], opinions=(BAD,)),
        make_reading(clips[3], scene="sea"),
    ]
    cells = summarise(clips, readings, least_people=1)
    assert [(c.outlet, c.month, c.clips, c.people) for c in cells] == [
        ("north", "2026-10", 2, 2),
        ("north", "2026-11", 1, 1),
        ("south", "2026-10", 1, 1),
    ]
    assert aspects_of(cells) == ["health", "jobs"]
    assert [row[4:] for row in rows_of(cells)] == [["studio", "+0.00", "+1.00"], ["-", "-", "-1.00"], ["sea", "-", "-"]]
    assert [cell.month for cell in summarise(clips, readings, least_people=2)] == ["2026-10"]


def test_a_number_of_few_people_is_left_out_of_a_month_of_many(clips, make_reading):
    """Three people; two speak of jobs, one of them twice of health; one is at the sea."""
    month = [replace(clips[0], clip=str(n), subject=who) for n, who in enumerate(["ann", "ben", "ben", "cem"])]
    readings = [
        make_reading(month[0], opinions=(GOOD,), scene="studio"),
        make_reading(month[1], opinions=(BAD, HEALTH), scene="sea"),
        make_reading(month[2], opinions=(HEALTH,), scene="sea"),
        make_reading(month[3], scene="studio"),
    ]
    (cell,) = summarise(month, readings, least_people=2)
    assert to_json(cell) == {
        "outlet": "north",
        "month": "2026-10",
        "clips": 4,
        "people": 3,
        "scene": "studio",
        "balances": {"jobs": 0.0},
    }
    (none,) = summarise(month, readings, least_people=3)
    assert (to_json(none)["balances"], none.scene) == ({}, None)
    at_sea = [*readings[:3], make_reading(month[3], scene="sea")]
    assert summarise(month, at_sea, least_people=2)[0].scene == "sea"
    alone = [make_reading(clip, scene="sea" if clip.subject == "ben" else None) for clip in month]
    assert summarise(month, alone, least_people=2)[0].scene is None


def test_a_picture_names_every_aspect_and_every_outlet_that_speaks_as_they_are(clips, make_reading):
    named = [
        replace(clip, outlet=outlet) for clip, outlet in zip(clips, ("_north", "$outh$", "mute", "mute"), strict=True)
    ]
    odd = Opinion("a$b$", Sentiment.NEUTRAL)
    readings = [make_reading(clip, opinions=said) for clip, said in zip(named, ((GOOD,), (odd,), (), ()), strict=True)]
    figure = figure_of(summarise(named, readings, least_people=1))
    (legend,) = figure.legends
    titles = [axes._left_title for axes in figure.axes]
    assert [text.get_text() for text in legend.get_texts()] == ["$outh$", "_north"]
    assert [text.get_text() for text in titles] == ["a$b$", "jobs"]
    assert not any(text.get_parse_math() for text in (*legend.get_texts(), *titles))
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["2026-10", "2026-11"]


def test_a_picture_is_the_same_every_time_and_without_an_aspect_there_is_none(clips, tmp_path, make_reading):
    cells = summarise(clips, [make_reading(clip, opinions=(GOOD,)) for clip in clips], least_people=1)
    draw(cells, tmp_path / "one.svg")
    draw(cells, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    draw(summarise(clips, [make_reading(clip) for clip in clips], least_people=1), tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_a_file_that_is_listed_under_three_people_is_one_clip_and_no_crowd(clips, make_reading):
    trio = [replace(clips[0], clip=str(n), subject=who) for n, who in enumerate(["ann", "ben", "cem"])]
    same = [replace(make_reading(clip, opinions=(GOOD,), scene="sea"), media="one") for clip in trio]
    (cell,) = summarise(trio, same, least_people=1)
    assert (cell.clips, cell.people, cell.sentiments["jobs"].total(), cell.scene) == (1, 1, 1, "sea")
    assert summarise(trio, same, least_people=2) == []
    more = [replace(clips[0], clip="m", subject="dan"), replace(clips[0], clip="n", subject="eve")]
    both = [*same, make_reading(more[0], opinions=(BAD,)), make_reading(more[1], opinions=(GOOD,))]
    (cell,) = summarise([*trio, *more], both, least_people=3)
    assert (cell.clips, cell.people, cell.balance("jobs")) == (3, 3, 1 / 3)
