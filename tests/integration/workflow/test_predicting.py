"""A predictor: it answers as ``mbd predict`` does, from what is live and not withdrawn when the answer is made."""

import gc
import shutil
import socket
import stat
import threading
import weakref
from dataclasses import replace

import httpx
import numpy as np
import pytest
from sqlalchemy import update

from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import LedgerError, PredictionError, PredictorError, SettingsError, TrainingError
from mbd.records import tables
from mbd.records.database import begin_locked
from mbd.records.derivations import attribute
from mbd.settings import Settings
from mbd.workflow.evaluation import predict_rows
from mbd.workflow.live import load_live_model
from mbd.workflow.office import open_office
from mbd.workflow.predicting import predictor as module
from mbd.workflow.predicting.client import PredictorClient
from mbd.workflow.predicting.exchange import Answer, Question, socket_of
from mbd.workflow.predicting.predictor import Predictor
from mbd.workflow.predicting.service import answering, only_one
from mbd.workflow.revocation import revoke

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
WHOLE = 2
"""A row that has all channels."""


def question(cohort, *, line="main", most=100):
    """The rows of a cohort, as somebody sends them."""
    clips = [
        {"subject": row.subject, "channels": {m.value: cohort.feature(i, m).tolist() for m in cohort.present(i)}}
        for i, row in enumerate(cohort.rows[:most])
    ]
    return Question.model_validate({"line": line, "clips": clips})


def with_channels(subject="p", **channels):
    return Question.model_validate({"line": "main", "clips": [{"subject": subject, "channels": channels}]})


@pytest.fixture
def office(home):
    with open_office(Settings(home=home)) as opened:
        yield opened


@pytest.fixture
def predictor(office):
    return Predictor(office)


def test_it_answers_what_the_command_line_does_bit_for_bit(predictor, system, cohort):
    asked = cohort.select(range(60))
    expected = predict_rows(load_live_model(system, system.live("main")), asked, system.suppressed())
    answer = predictor.answer(question(asked))
    assert (answer.version, answer.guarantee_class) == (1, None)
    assert [clip.prediction for clip in answer.clips] == [row.output for row in expected]
    for clip, row in zip(answer.clips, expected, strict=True):
        said = dict.fromkeys(clip.used, "present") | dict.fromkeys(clip.reconstructed, "reconstructed")
        assert said | dict.fromkeys(clip.refused, "suppressed") == row.channels
        assert clip.why_not is None


def test_after_a_revocation_the_next_version_answers_without_the_channel(predictor, system, cohort, people):
    mine = question(cohort.where(subject=people[0]))
    before = predictor.answer(mine)
    revoke(system, [(people[0], AUDIO)])
    after = predictor.answer(mine)
    assert (after.version, after.guarantee_class) == (2, "certified")
    assert {(*clip.refused,) for clip in after.clips} == {("audio",)}
    assert all("audio" not in clip.used + clip.reconstructed for clip in after.clips)
    assert any("audio" in clip.used for clip in before.clips)
    silent = [
        clip.model_copy(update={"channels": clip.channels.model_copy(update={"audio": None})}) for clip in mine.clips
    ]
    without = predictor.answer(
        mine.model_copy(update={"clips": [c for c in silent if c.channels.text or c.channels.vision]})
    )
    assert [c.prediction for c in without.clips] == [c.prediction for c in after.clips if c.prediction is not None]


def test_nothing_usable_is_no_prediction_and_says_why(predictor, system, cohort, people):
    revoke(system, [(people[0], AUDIO), (people[0], TEXT), (people[0], VISION)])
    mine = cohort.where(subject=people[0])
    answer = predictor.answer(question(mine))
    assert {clip.prediction for clip in answer.clips} == {None}
    assert {clip.why_not for clip in answer.clips} == {"every channel that was sent is withdrawn"}
    assert answer.clips[0].refused == ["text", "audio", "vision"]
    assert not any(clip.used or clip.reconstructed for clip in answer.clips)


def test_what_everyone_withdrew_is_refused_for_strangers_too(predictor, system, cohort):
    revoke(system, [(EVERYONE, AUDIO)])
    answer = predictor.answer(with_channels(**{m.value: cohort.feature(WHOLE, m).tolist() for m in Modality}))
    assert (answer.clips[0].used, answer.clips[0].refused) == (["text", "vision"], ["audio"])


def test_what_was_made_from_a_withdrawn_channel_falls_with_it_by_the_lines_own_policy(
    predictor, system, cohort, people
):
    """The list has the voice alone, as where another line's text stands by itself."""
    sent = with_channels(people[0], **{m.value: cohort.feature(WHOLE, m).tolist() for m in Modality})
    revoke(system, [(people[0], AUDIO)])
    assert predictor.answer(sent).clips[0].refused == ["audio"]
    made_from = {"attributes": attribute({"text": ["audio"], "audio": [], "vision": []})}
    with begin_locked(system.engine) as connection:
        connection.execute(update(tables.lineage_node).where(tables.lineage_node.c.kind == "cohort").values(made_from))
    answer = predictor.answer(sent).clips[0]
    assert (answer.used, answer.refused) == (["vision"], ["text", "audio"])


def test_a_label_that_would_fall_with_the_voice_takes_no_clip_along(predictor, system, cohort, people):
    """`predict_rows` drops labelled rows then; what is sent to be predicted has no label."""
    revoke(system, [(people[0], AUDIO)])
    predictor.refresh()
    live, model = predictor._models["main"]
    task = replace(model.task, label_derived_from=(AUDIO,), label_policy="falls")
    predictor._models["main"] = live, replace(model, task=task)
    sent = with_channels(people[0], **{m.value: cohort.feature(WHOLE, m).tolist() for m in Modality})
    assert predictor.answer(sent).clips[0].used == ["text", "vision"]


def test_an_answer_that_a_deletion_overtakes_is_made_again(predictor, system, cohort, people, monkeypatch):
    """The deletion commits, and destroys the version, between a question's first look and its answer."""
    pending = [lambda: revoke(system, [(people[0], AUDIO)])]

    def overtaken(*arguments):
        made = predict_rows(*arguments)
        if pending:
            pending.pop()()
        return made

    monkeypatch.setattr(module, "predict_rows", overtaken)
    answer = predictor.answer(question(cohort.where(subject=people[0])))
    assert answer.version == 2
    assert answer.clips[0].refused == ["audio"]


def test_a_version_whose_files_go_before_they_are_read_is_not_missed(predictor, system, cohort, people, monkeypatch):
    def slow(office, live):
        if live.version == 1:
            revoke(system, [(people[0], AUDIO)])
            assert not system.model_folder("main", 1).exists()
        return load_live_model(office, live)

    monkeypatch.setattr(module, "load_live_model", slow)
    assert predictor.answer(question(cohort.where(subject=people[0]))).version == 2


def test_a_live_version_with_damaged_files_is_not_answered_from(predictor, system, cohort):
    (system.model_folder("main", 1) / "heads.safetensors").write_bytes(b"x")
    with pytest.raises(TrainingError):
        predictor.answer(question(cohort, most=1))


def test_a_retired_model_leaves_the_memory_without_a_question(predictor, system, people):
    predictor.refresh()
    (kept,) = [weakref.ref(model) for _, model in predictor._models.values()]
    revoke(system, [(people[0], AUDIO)])
    predictor.refresh()
    gc.collect()
    assert kept() is None
    assert [live.version for live, _ in predictor._models.values()] == [2]


def test_a_restored_backup_answers_nothing(predictor, system, cohort, people, tmp_path):
    home = system.home
    backup = shutil.copy(home / "mbd.sqlite3", tmp_path / "backup.sqlite3")
    revoke(system, [(people[0], AUDIO)])
    predictor._office.engine.dispose()
    system.engine.dispose()
    for left in home.glob("mbd.sqlite3*"):
        left.unlink()
    shutil.copy(backup, home / "mbd.sqlite3")
    with pytest.raises(LedgerError):
        predictor.answer(question(cohort, most=1))
    with pytest.raises(LedgerError):
        predictor.refresh()


def test_clips_that_do_not_fit_are_refused_by_number_and_channel(predictor, cohort):
    dims = {m: c.dim for m, c in cohort.channels.items()}
    vector, sequence = [0.5] * dims[TEXT], [[0.5] * dims[TEXT]]
    right, wrong = (vector, sequence) if cohort.channels[TEXT].kind == "vector" else (sequence, vector)
    long = [*vector, 0.5] if right is vector else [*sequence, [0.5] * (dims[TEXT] + 1)]
    huge = [1e39] * dims[TEXT] if right is vector else [[1e39] * dims[TEXT]]
    predictor.answer(with_channels(text=right))
    for text, said in ((wrong, "text is a"), (long, f"not {dims[TEXT]}"), (huge, "float32")):
        with pytest.raises(PredictionError, match=f"Clip 0: text.*|{said}") as refused:
            predictor.answer(with_channels(text=text))
        assert said in refused.value.message
    with pytest.raises(PredictionError, match="no model line"):
        predictor.answer(question(cohort, line="other", most=1))


def test_float32_numbers_survive_the_way_bit_for_bit(cohort):
    sent = question(cohort)
    there = Question.model_validate_json(sent.model_dump_json(exclude_none=True))
    assert there == sent
    text = there.clips[WHOLE].channels.text
    assert np.array_equal(np.array(text, np.float32), cohort.feature(WHOLE, TEXT))


@pytest.fixture
def place(tmp_path):
    return Settings(home=tmp_path)


def said(asked):
    return Answer(line=asked.line, version=1, guarantee_class=None, clips=[])


@pytest.fixture
def asking(place):
    return PredictorClient(place)


def test_a_socket_is_its_owners_alone_and_gone_at_the_end(place, asking):
    path = socket_of(place)
    with pytest.raises(PredictorError, match="No predictor is running"):
        asking.ask(with_channels(text=[1.0]))
    with socket.socket(socket.AF_UNIX) as left, only_one(path):
        left.bind(str(path))  # what a killed one leaves
        with answering(said, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert asking.ask(with_channels(text=[1.0])).line == "main"
    assert not path.exists()


def test_one_socket_has_one_predictor(place):
    with (
        only_one(socket_of(place)),
        pytest.raises(SettingsError, match="Another predictor"),
        only_one(socket_of(place)),
    ):
        pass
    with only_one(socket_of(place)):
        pass


def test_what_is_no_socket_is_not_replaced(place):
    socket_of(place).write_text("precious")
    with pytest.raises(SettingsError, match="is no socket"), answering(said, socket_of(place)):
        pass
    assert socket_of(place).read_text() == "precious"


def test_a_path_that_is_too_long_for_a_socket_is_said_to_be(tmp_path):
    with pytest.raises(SettingsError, match="cannot be listened on"), answering(said, tmp_path / ("x" * 120)):
        pass


def test_more_askers_than_threads_are_all_answered_and_strangers_harm_nobody(place, asking):
    path, together = socket_of(place), threading.Barrier(4)

    def slow(asked):
        together.wait(10)  # four are answered at once
        return said(asked)

    answers = []
    with answering(slow, path):
        askers = [
            threading.Thread(target=lambda: answers.append(asking.ask(with_channels(text=[1.0])))) for _ in range(8)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(str(path))
            gone.sendall(b"\x00\xff nonsense\r\n\r\n")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://predictor") as http:
            assert http.post("/", content=b"{").status_code == 400
            assert http.post("/", content=b" " * (9 * 2**20)).status_code == 400
            assert http.get("/").status_code == 501
    assert len(answers) == 8


def test_an_error_inside_is_not_told(place, asking):
    def broken(_asked):
        raise ValueError("the words of p07")

    with answering(broken, socket_of(place)), pytest.raises(PredictorError, match="does not answer now"):
        asking.ask(with_channels(text=[1.0]))


def test_a_refusal_arrives_with_its_remedy(place, asking):
    def refusing(_asked):
        raise PredictionError("Clip 0: no.", remedy="send another")

    with answering(refusing, socket_of(place)), pytest.raises(PredictionError) as refused:
        asking.ask(with_channels(text=[1.0]))
    assert (refused.value.message, refused.value.remedy) == ("Clip 0: no.", "send another")
