"""A real process that publishes and is killed: `publish_and_die.py URL FOLDER VKEY TARGET`.

Copies FOLDER to TARGET/1, TARGET/2, ... and publishes into the n-th one by a child of its own, which is killed with
SIGKILL just before its n-th change of the file system; ends when a child has survived.
"""

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from certs import checkpoint as checkpoints
from certs.note import NoteKey
from mbd.records.database import open_database
from mbd.records.ledger import TreeHead
from mbd.workflow.publication import publish

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def publish_until(url: str, folder: Path, key: NoteKey, last: int) -> None:
    seen = 0

    def die(event: str, _arguments: object) -> None:
        nonlocal seen
        if event in CHANGES:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    def read_note(note: str) -> TreeHead:
        checkpoint, _ = checkpoints.verify(note, [key])
        return TreeHead(checkpoint.size, checkpoint.root)

    engine = open_database(url)
    sys.addaudithook(die)
    publish(engine, folder, read_note=read_note)


def main(url: str, folder: str, vkey: str, target: str) -> None:
    for number in count(1):
        copy = Path(target) / str(number)
        shutil.copytree(folder, copy)
        child = os.fork()
        if child == 0:
            publish_until(url, copy, NoteKey.from_vkey(vkey), number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            sys.exit(code)


main(*sys.argv[1:])
