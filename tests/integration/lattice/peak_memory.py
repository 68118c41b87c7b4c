"""The peak memory of one process: `peak_memory.py stream|load MODEL SMALL LARGE`, folders or s3:// URLs.

Prints by how many MB the peak rises when, after the small cohort, the statistics of the large one are made.

VmHWM and not `getrusage`: Linux starts the latter's peak at that of the parent process.
"""

import re
import sys
from pathlib import Path

from mbd.cohort.folder import open_pieces, read
from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model
from mbd.lattice.streaming import stream_statistics


def peak_kilobytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(how: str, model: str, small: str, large: str) -> None:
    featurizer = load_model(Path(model)).featurizer
    stream_statistics(featurizer, open_pieces(small))
    before = peak_kilobytes()
    if how == "stream":
        stream_statistics(featurizer, open_pieces(large))
    else:
        featurizer.statistics(training_rows(read(Path(large))))
    sys.stdout.write(f"{(peak_kilobytes() - before) / 1024:.1f}\n")


main(*sys.argv[1:])
