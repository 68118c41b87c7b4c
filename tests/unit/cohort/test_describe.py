import json
from dataclasses import replace

from mbd.cohort.cohort import EVERYONE, Split, Task
from mbd.cohort.describe import describe
from mbd.cohort.modality import Modality


def test_a_description_is_plain_json_and_counts_what_is_there(small):
    said = json.loads(json.dumps(describe(small), allow_nan=False))
    assert said["origin"] == "synthetic"
    assert (said["rows"], said["subjects"]) == (15, 5)
    assert {"partition": "revocable", "split": "train", "rows": 6, "subjects": 2} in said["places"]
    assert said["patterns"] == {"t": 3, "a": 0, "ta": 12}
    assert said["channels"]["audio"]["rows_absent"] == 3
    assert said["channels"]["audio"]["frames"] == {"min": 1, "median": 2.0, "max": 3}
    assert said["channels"]["text"]["frames"] is None
    assert (said["labels"]["negative"], said["labels"]["zero"], said["labels"]["positive"]) == (5, 5, 5)
    assert sum(said["labels"]["histogram"]["counts"]) == 15


def test_classes_are_counted_in_column_order(small):
    names = ("sad", "glad", "angry")
    rows = tuple(replace(row, label=names[i % 2]) for i, row in enumerate(small.rows))
    said = describe(replace(small, task=Task("classification", classes=names), rows=rows))
    assert list(said["labels"]["counts"].items()) == [("sad", 8), ("glad", 7), ("angry", 0)]


def test_what_could_disappoint_is_said(small):
    warnings = " ".join(describe(small)["warnings"])
    assert "No row has vision" in warnings
    assert "Only 1 public train subjects" in warnings
    assert "5 subjects have fewer than 5 clips" in warnings


def test_policies_that_keep_what_was_derived_are_said(small):
    text = replace(small.channels[Modality.TEXT], derived_from=(Modality.AUDIO,), consent="independent")
    task = replace(small.task, label_derived_from=(Modality.AUDIO, Modality.VISION))
    warnings = describe(replace(small, channels={**small.channels, Modality.TEXT: text}, task=task))["warnings"]
    assert "text is derived from audio and independently consented: it stays when that is withdrawn." in warnings
    assert "Labels were made from audio, vision and stay when one of them is withdrawn." in warnings


def test_a_cohort_after_its_last_withdrawal_can_be_described(small):
    gone = small.select([i for i, row in enumerate(small.rows) if row.split is Split.TEST])
    gone = gone.without([(EVERYONE, m) for m in Modality])
    said = json.loads(json.dumps(describe(gone), allow_nan=False))
    assert said["rows"] == 0
    assert "No revocable rows: nobody can withdraw anything." in said["warnings"]
