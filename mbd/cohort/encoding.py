"""A cohort as a JSON declaration, a table of rows and matrices of numbers, and back. It knows no file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.modality import Modality


def declaration(head: Cohort) -> dict[str, Any]:
    """Name, task and channels as JSON."""
    task = head.task
    return {
        "name": head.name,
        "description": head.description,
        "synthetic": head.synthetic,
        "task": {
            "kind": task.kind,
            "low": task.low,
            "high": task.high,
            "classes": list(task.classes),
            "label_derived_from": [m.value for m in task.label_derived_from],
            "label_policy": task.label_policy,
        },
        "channels": {
            m.value: {
                "kind": channel.kind,
                "dim": channel.dim,
                "extractor": channel.extractor,
                "derived_from": [source.value for source in channel.derived_from],
                "consent": channel.consent,
            }
            for m, channel in head.channels.items()
        },
    }


def matrices(cohort: Cohort) -> dict[str, np.ndarray]:
    """Each channel as float32 [all frames, F], the rows that have it one after the other; by the modality's name."""
    arrays = {}
    for modality, channel in cohort.channels.items():
        present = [feature.reshape(-1, channel.dim) for feature in cohort.features[modality] if feature is not None]
        empty = np.zeros((0, channel.dim), dtype=np.float32)
        arrays[modality.value] = np.ascontiguousarray(np.concatenate([empty, *present]))
    return arrays


def row_table(cohort: Cohort) -> pa.Table:
    """Who the rows are, and how many frames of each channel are theirs."""
    label = pa.float64() if cohort.task.kind == "regression" else pa.string()
    columns: dict[str, pa.Array] = {
        "clip": pa.array([row.clip for row in cohort.rows], pa.string()),
        "subject": pa.array([row.subject for row in cohort.rows], pa.string()),
        "label": pa.array([row.label for row in cohort.rows], label),
        "partition": pa.array([row.partition.value for row in cohort.rows], pa.string()),
        "split": pa.array([row.split.value for row in cohort.rows], pa.string()),
    }
    for modality in cohort.modalities:
        columns[f"{modality}_frames"] = pa.array(map(frames, cohort.features[modality]), pa.int32())
    return pa.table(columns)


def frames(feature: Feature | None) -> int | None:
    """1 for a vector, T for a sequence, None where the channel is absent."""
    return None if feature is None else feature.size // feature.shape[-1]


def declared(record: Mapping[str, Any]) -> Cohort:
    """The cohort without its rows, from what `declaration` made.

    Raises:
        KeyError, TypeError, ValueError: it made something else.
    """
    channels = _channels(record)
    return Cohort(
        name=record["name"],
        description=record["description"],
        synthetic=record["synthetic"],
        task=_task(record),
        channels=channels,
        rows=(),
        features=dict.fromkeys(channels, ()),
    )


def with_rows(head: Cohort, batch: pa.RecordBatch, arrays: Mapping[Modality, np.ndarray]) -> Cohort:
    """The cohort of the rows in a batch of `row_table`, whose frames stand in [frames, F] arrays.

    Raises:
        KeyError, TypeError, ValueError: they are no such rows.
    """
    columns = (batch[name].to_pylist() for name in ("clip", "subject", "label", "partition", "split"))
    return replace(
        head,
        rows=tuple(
            Row(clip, subject, label, Partition(partition), Split(split))
            for clip, subject, label, partition, split in zip(*columns, strict=True)
        ),
        features={
            m: _cut(arrays[m], batch[f"{m}_frames"].to_pylist(), channel) for m, channel in head.channels.items()
        },
    )


def _task(record: Mapping[str, Any]) -> Task:
    task = record["task"]
    return Task(
        task["kind"],
        task["low"],
        task["high"],
        tuple(task["classes"]),
        tuple(Modality(m) for m in task["label_derived_from"]),
        task["label_policy"],
    )


def _channels(record: Mapping[str, Any]) -> dict[Modality, Channel]:
    channels = {}
    for name, channel in record["channels"].items():
        derived = tuple(Modality(source) for source in channel["derived_from"])
        channels[Modality(name)] = Channel(
            Modality(name), channel["kind"], channel["dim"], channel["extractor"], derived, channel["consent"]
        )
    return channels


def _cut(array: np.ndarray, frames: list[int | None], channel: Channel) -> tuple[Feature | None, ...]:
    features: list[Feature | None] = []
    start = 0
    for count in frames:
        if count is None:
            features.append(None)
        else:
            own = array[start : start + count]
            features.append(own[0] if channel.kind == "vector" else own)
            start += count
    return tuple(features)
