"""What a person wants to know about a cohort before using it, as plain JSON values. Rendering is the caller's work."""

from collections import Counter
from typing import Any

import numpy as np

from mbd.cohort.cohort import Cohort, Partition, Row, Split
from mbd.cohort.modality import Modality, pattern_name

_FEW_SUBJECTS = 10
_FEW_CLIPS = 5


def describe(cohort: Cohort) -> dict[str, Any]:
    """Name, origin, task, labels, people, channels, patterns and warnings of a cohort; JSON-able."""
    task = cohort.task
    return {
        "name": cohort.name,
        "description": cohort.description,
        "origin": "synthetic" if cohort.synthetic else "real",
        "task": {
            "kind": task.kind,
            "outputs": task.outputs,
            "low": task.low,
            "high": task.high,
            "classes": list(task.classes),
            "label_derived_from": [m.value for m in task.label_derived_from],
            "label_policy": task.label_policy,
        },
        "labels": _labels(cohort),
        "rows": len(cohort),
        "subjects": len(cohort.subjects),
        "places": _places(cohort),
        "clips_per_subject": _spread(list(Counter(row.subject for row in cohort.rows).values())),
        "channels": {m.value: _channel(cohort, m) for m in cohort.modalities},
        "patterns": _patterns(cohort),
        "warnings": _warnings(cohort),
    }


def _labels(cohort: Cohort) -> dict[str, Any]:
    if cohort.task.kind == "classification":
        counts = Counter(str(row.label) for row in cohort.rows)
        return {"counts": {name: counts[name] for name in cohort.task.classes}}
    scores = cohort.targets[:, 0]
    if not scores.size:
        return {"counts": {}}
    edges = np.linspace(cohort.task.low, cohort.task.high, 8)
    counts_in_bins, _ = np.histogram(scores, bins=edges)
    return {
        "mean": float(scores.mean()),
        "sd": float(scores.std()),
        "negative": int((scores < 0).sum()),
        "zero": int((scores == 0).sum()),
        "positive": int((scores > 0).sum()),
        "histogram": {"edges": edges.tolist(), "counts": counts_in_bins.tolist()},
    }


def _places(cohort: Cohort) -> list[dict[str, Any]]:
    """Rows and subjects of every partition and split that is not empty."""
    places = []
    for partition in Partition:
        for split in Split:
            rows = [row for row in cohort.rows if (row.partition, row.split) == (partition, split)]
            if rows:
                places.append(
                    {
                        "partition": partition.value,
                        "split": split.value,
                        "rows": len(rows),
                        "subjects": len({row.subject for row in rows}),
                    }
                )
    return places


def _channel(cohort: Cohort, modality: Modality) -> dict[str, Any]:
    channel = cohort.channels[modality]
    features = [feature for feature in cohort.features[modality] if feature is not None]
    return {
        "kind": channel.kind,
        "dim": channel.dim,
        "extractor": channel.extractor,
        "derived_from": [source.value for source in channel.derived_from],
        "consent": channel.consent,
        "rows_present": len(features),
        "rows_absent": len(cohort) - len(features),
        "frames": _spread([len(feature) for feature in features]) if channel.kind == "sequence" else None,
    }


def _patterns(cohort: Cohort) -> dict[str, int]:
    """How many rows have exactly this set of channels."""
    counts = Counter(cohort.present(i) for i in range(len(cohort)))
    return {pattern_name(pattern): counts[pattern] for pattern in cohort.patterns}


def _spread(counts: list[int]) -> dict[str, float] | None:
    if not counts:
        return None
    return {"min": min(counts), "median": float(np.median(counts)), "max": max(counts)}


def _warnings(cohort: Cohort) -> list[str]:
    """What could disappoint somebody later."""
    warnings = [
        f"No row has {missing}: a revocation of it finds nothing, and no head will use it."
        for missing in Modality
        if not any(missing in cohort.present(i) for i in range(len(cohort)))
    ]
    public = {row.subject for row in cohort.rows if _is(row, Partition.PUBLIC, Split.TRAIN)}
    if len(public) < _FEW_SUBJECTS:
        warnings.append(f"Only {len(public)} public train subjects: the backbone sees few people.")
    if not any(row.split is Split.VALID for row in cohort.rows):
        warnings.append("No valid rows: nothing can be selected without looking at the test rows.")
    if not any(row.split is Split.TEST for row in cohort.rows):
        warnings.append("No test rows: nothing can be measured on people the models never saw.")
    if not any(row.partition is Partition.REVOCABLE for row in cohort.rows):
        warnings.append("No revocable rows: nobody can withdraw anything.")
    thin = sum(count < _FEW_CLIPS for count in Counter(row.subject for row in cohort.rows).values())
    if thin:
        warnings.append(f"{thin} subjects have fewer than {_FEW_CLIPS} clips.")
    warnings += [
        f"{modality} is derived from {', '.join(channel.derived_from)} and independently consented: "
        f"it stays when that is withdrawn."
        for modality, channel in cohort.channels.items()
        if channel.consent == "independent"
    ]
    if cohort.task.label_derived_from and cohort.task.label_policy == "keeps":
        sources = ", ".join(cohort.task.label_derived_from)
        warnings.append(f"Labels were made from {sources} and stay when one of them is withdrawn.")
    return warnings


def _is(row: Row, partition: Partition, split: Split) -> bool:
    return row.partition is partition and row.split is split
