"""How messages leave: the promise of a notifier, the one that writes files, and the choice that the settings make.

A new notifier is one class; whoever does not want to change this program names its factory in ``MBD_NOTIFIER``.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Protocol

from mbd.errors import NotifierError, SettingsError
from mbd.settings import Settings


@dataclass(frozen=True)
class Letter:
    """A message as it leaves. Nothing of it but its id may be written anywhere on the way.

    Attributes:
        id: the same on every try, by which a repetition is known; letters, digits, ``-`` and ``.``.
        to: the contact as it was given with the request, which `check_contact` has judged.
        subject: one line of printable text. It says nothing that a locked screen must not show.
        text: lines of plain text, each ended by a newline.
        at: when it came to be, in UTC.
    """

    id: str
    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    at: datetime


class Notifier(Protocol):
    """Sends letters. It may be asked from several threads at once, and for the same letter again."""

    def send(self, letter: Letter) -> None:
        """Send a letter; when it returns, somebody else has promised to deliver it.

        It takes no longer than two minutes: after five another sender would try the same letter.

        Raises:
            NotifierError: it was not sent. It is tried again later, for about a day.
        """


def open_notifier(settings: Settings) -> Notifier | None:
    """The notifier that the settings name; None if they name none. It connects to nothing yet.

    Raises:
        SettingsError: what it needs is missing.
        KeyFileError: the password's file is missing, readable by others, or empty.
    """
    if settings.notifier is None:
        return None
    scheme, _, rest = settings.notifier.partition(":")
    match scheme:
        case "folder":
            return _open_folder(Path(rest))
        case "python":
            return _load(rest)(settings)
        case _:
            from mbd.workflow.notifying.mail import open_mail  # noqa: PLC0415 - only where there is mail

            return open_mail(settings)


@dataclass(frozen=True)
class FolderNotifier:
    """Writes each letter to a file that its owner alone can read: to try things out."""

    folder: Path

    def send(self, letter: Letter) -> None:
        """Write ``<id>.txt``. A letter that is sent again replaces itself.

        Raises:
            NotifierError: it cannot be written.
        """
        partial = self.folder / f".{letter.id}.partial"
        head = f"To: {letter.to}\nDate: {letter.at:%Y-%m-%dT%H:%M:%SZ}\nSubject: {letter.subject}\n\n"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(head + letter.text)
            partial.replace(self.folder / f"{letter.id}.txt")
        except OSError as error:
            raise NotifierError(
                "A message cannot be written to the folder of MBD_NOTIFIER.", remedy="see that it is there, with room"
            ) from error


def _open_folder(folder: Path) -> FolderNotifier:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"MBD_NOTIFIER names a folder that cannot be made: {error.strerror}.",
            remedy="name one that you may write to",
        ) from error
    return FolderNotifier(folder)


def _load(named: str) -> Callable[[Settings], Notifier]:
    module, _, name = named.partition(":")
    try:
        factory: Callable[[Settings], Notifier] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"MBD_NOTIFIER names '{named}', which cannot be imported.",
            remedy="install the plug-in beside this program, or correct the name",
        ) from error
    return factory
