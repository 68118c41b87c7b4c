"""What the stage of words that comes with us is worth: word error rate on real acted speech.

    OMP_NUM_THREADS=1 python -m benchmarks.clips

All 48 strongly happy and angry clips of ``shared/data/ravdess/clips``, each of two known sentences. Writes
``benchmarks/results/clips.json``; `benchmarks.readme` makes the table of ``docs/clips.md``.
"""

import json
from datetime import date

from rich.progress import track

from benchmarks.cohorts import DATA, RESULTS
from mbd.clips.manifest import Clip
from mbd.clips.media import sound
from mbd.clips.reading import Reading
from mbd.clips.scores import score
from mbd.clips.stock.sphinx import Sphinx
from mbd.cohort.importers.files import read_csv

DAY = date(2018, 5, 16)
"""Of the data set's paper; nothing depends on it."""


def main() -> None:
    """Transcribe every clip, and write the scores by emotion."""
    folder, sphinx = DATA / "ravdess", Sphinx()
    rows = {str(row["id"]): row for row in read_csv(folder / "ravdess.csv", ("id", "actor", "emotion", "text"))}
    found: dict[str, list[tuple[Clip, Reading]]] = {}
    for path in track(sorted((folder / "clips").glob("*.flac")), description="clips"):
        name = path.stem.partition("-")[2]
        row, heard = rows[name], sound(path)
        clip = Clip(name, str(row["actor"]), "film", DAY, path, {}, row["text"], None, None)
        said = "" if heard is None else sphinx.transcribe(heard)
        reading = Reading(
            clip=name,
            subject=clip.subject,
            people=(clip.subject,),
            media=name,
            stages="",
            withheld=(),
            transcript=said,
            opinions=None,
            scenes=(),
            features={},
        )
        found.setdefault(str(row["emotion"]), []).append((clip, reading))
    groups = {**found, "all": [pair for pairs in found.values() for pair in pairs]}
    result = {
        name: {"clips": len(pairs), "wer": score(*zip(*pairs, strict=True))["wer"]} for name, pairs in groups.items()
    }
    (RESULTS / "clips.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
