"""The peak memory of one process that trains: `train_memory.py pieces|memory HOME SMALL LARGE`.

Prints by how many MB the peak (VmHWM) rises when, after a line on the small cohort, one is trained on the large.
"""

import re
import sys
from pathlib import Path

from mbd.cohort import folder
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

RECIPE = Recipe(epochs=1, options={"width": 4, "property_width": 4})


def peak_kilobytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(how: str, home: str, small: str, large: str) -> None:
    peaks = []
    with open_system(Settings(home=Path(home)), create=True) as system:
        for line in (small, large):
            cohort = folder.open_pieces(line) if how == "pieces" else folder.read(Path(line))
            train_line(system, cohort, RECIPE, line=Path(line).name, seed=0)
            peaks.append(peak_kilobytes())
    sys.stdout.write(f"{(peaks[1] - peaks[0]) / 1024:.1f}\n")


main(*sys.argv[1:])
