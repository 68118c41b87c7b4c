"""Kinds of scenes by colours: a frame is of the kind of the example whose colours are most alike.

Histogram intersection (Swain and Ballard 1991) of 4 x 4 x 4 colours. It tells a studio from a street if their colours
differ, and knows nothing else of either.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbd.clips.media import Image, frames
from mbd.errors import ClipError
from mbd.hashing import file_digest, json_digest

LEVELS = 4
"""Of each of red, green and blue."""


def histogram(image: Image) -> NDArray[np.float32]:
    """Shares [64] of the pixels of each colour."""
    levels = image.reshape(-1, 3) // (256 // LEVELS)
    colours = (levels[:, 0].astype(np.int64) * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    return (np.bincount(colours, minlength=LEVELS**3) / len(colours)).astype(np.float32)


class Palette:
    """Knows examples.

    Args:
        examples: a folder with a folder for each kind of scene, which is named like it and holds pictures; its path is
            as seen from where the program runs.
    """

    def __init__(self, examples: str) -> None:
        paths = sorted(path for path in Path(examples).glob("*/*") if path.is_file())
        self._kinds = [path.parent.name for path in paths]
        self._examples_EC = np.array([histogram(_picture(path)) for path in paths])
        if len(set(self._kinds)) < 2:
            raise ClipError(
                f"{examples} has no examples of two kinds of scenes.",
                remedy="put pictures into folders that are named like the kinds: scenes/studio/1.png",
            )

        self.digest = json_digest([[path.parent.name, file_digest(path)] for path in paths])

    def scene(self, image: Image) -> str:
        """See `SceneReader`."""
        alike_E = np.minimum(self._examples_EC, histogram(image)).sum(axis=1)
        return self._kinds[int(alike_E.argmax())]


def _picture(path: Path) -> Image:
    for _, image in frames(path, every=1.0):
        return image
    raise ClipError(f"{path} shows nothing.", remedy="keep pictures alone in the folders of examples")
