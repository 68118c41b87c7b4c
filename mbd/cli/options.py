"""Options and arguments that several commands share. What a check here refuses is a usage error: exit code 2."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mbd.cohort.modality import Modality

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class UsageError(typer.BadParameter):
    """Options that do not go together."""

    def format_message(self) -> str:
        """The message alone: no single value is to blame."""
        return self.message


def _name(value: str) -> str:
    """A name that can stand in a certificate and be the name of a folder."""
    if not _NAME.fullmatch(value):
        raise typer.BadParameter(f"'{value}' is not a name: use letters, digits and . _ + - (at most 64)")
    return value


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        file_okay=False,
        help="State folder. Default: MBD_HOME, else mbd in the user's state directory.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Line = Annotated[str, typer.Option(metavar="NAME", callback=_name, help="The model line.")]
Regime = Annotated[
    str, typer.Option(metavar="NAME", callback=_name, help="The law or policy it is made under: gdpr, ccpa, bipa, ...")
]
Subjects = Annotated[
    list[str] | None, typer.Option("--subject", metavar="NAME", help="Whose channels; may be repeated.")
]
Modalities = Annotated[
    list[Modality] | None,
    typer.Option("--modality", metavar="NAME", help="text, audio or vision; may be repeated. Default: all there is."),
]
Everyone = Annotated[bool, typer.Option("--everyone", help="Withdraw the modality for everyone.")]
CertifyAbsence = Annotated[
    bool,
    typer.Option(
        "--certify-absence",
        help="Certify absence where no model holds the channels, instead of an error. Always: MBD_CERTIFY_ABSENCE.",
    ),
]
DropSuppressed = Annotated[
    bool, typer.Option("--drop-suppressed", help="Make channels absent that their people withdrew.")
]
CohortFolder = Annotated[
    Path, typer.Argument(metavar="COHORT", exists=True, file_okay=False, help="A cohort folder (mbd data import).")
]
BundleFile = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", exists=True, dir_okay=False, help="The certificate: mdc.sigstore.json."),
]
CertificateId = Annotated[
    str, typer.Argument(metavar="CERTIFICATE", help="A certificate's id, as `mbd lineage` prints it: mdc-...")
]


def check_scope(subject: list[str], modality: list[Modality], *, everyone: bool) -> None:
    """Somebody or everyone, and for everyone a modality.

    Raises:
        UsageError: the options do not say whose channels, or say it twice.
    """
    if "*" in subject:
        raise UsageError("'*' is nobody's name; to withdraw a modality of all people, use --everyone")
    if subject and everyone:
        raise UsageError("give --subject or --everyone, not both")
    if not subject and not everyone:
        raise UsageError("say who: --subject NAME, or --everyone")
    if everyone and not modality:
        raise UsageError("--everyone needs a --modality")
