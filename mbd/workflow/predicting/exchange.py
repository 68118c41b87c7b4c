"""What a predictor is asked, what it answers, and where: all that both ends of its socket know. No science is loaded.

What can be said of a clip without its model line is checked here; what takes the line, by the predictor.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from mbd.naming import LONGEST, is_plain_name
from mbd.records.suppression import EVERYONE
from mbd.settings import Settings

MOST_CLIPS = 100
"""Clips in one question."""

Modality = Literal["text", "audio", "vision"]


def _name(name: str) -> str:
    if not is_plain_name(name) or name == EVERYONE:
        raise ValueError("it can be nobody's name in a cohort")
    return name


def _form(value: Any) -> str:
    """By its first element, so that what is wrong in one form is not said in terms of the other."""
    return "sequence" if isinstance(value, list) and value and isinstance(value[0], list) else "vector"


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Vector = Annotated[list[_Number], Field(min_length=1, fail_fast=True)]
_Sequence = Annotated[list[_Vector], Field(min_length=1, fail_fast=True)]
Features = Annotated[Annotated[_Vector, Tag("vector")] | Annotated[_Sequence, Tag("sequence")], Discriminator(_form)]
_Feature = Annotated[
    Features | None, Field(description="A vector, or one vector for each frame, as the line's cohort has them.")
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Channels(_Asked):
    """The features of one clip; what is left out or null is absent."""

    text: _Feature = None
    audio: _Feature = None
    vision: _Feature = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.text is None and self.audio is None and self.vision is None:
            raise ValueError("a clip has at least one channel")
        return self


class Clip(_Asked):
    """One clip of one person."""

    subject: Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_name)] = Field(
        description="Whose it is, by the name that withdrawals are filed under.", examples=["p07"]
    )
    channels: Channels = Field(examples=[{"text": [0.25, -1.5], "audio": [[0.5], [0.75]]}])


class Question(_Asked):
    """What is to be predicted, by the version of a line that is in service."""

    line: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", description="The model line.", examples=["main"])
    clips: Annotated[list[Clip], Field(min_length=1, max_length=MOST_CLIPS)]


class ClipAnswer(BaseModel):
    """What the version says of one clip, and from what. A channel is in at most one of the three lists."""

    model_config = ConfigDict(frozen=True)

    prediction: float | str | None = Field(
        description="The score or the class; null: nothing was left to predict from."
    )
    why_not: str | None = Field(description="Why there is no prediction.")
    used: list[Modality] = Field(description="Channels that were sent and read.")
    refused: list[Modality] = Field(
        description="Channels that the person or everybody withdrew, and what falls with them: not read, if sent."
    )
    reconstructed: list[Modality] = Field(
        description="Channels that were not sent, and that the line's network makes up from the others."
    )


class Answer(BaseModel):
    """The predictions, in the order of the clips, and the version that all of them are from."""

    model_config = ConfigDict(frozen=True)

    line: str
    version: int
    guarantee_class: str | None = Field(
        description="What the deletion that made the version proves; null: none made it."
    )
    clips: list[ClipAnswer]


class Refusal(BaseModel):
    """Why a question has no answer: it is the asker's to mend. It repeats nothing that was asked."""

    model_config = ConfigDict(frozen=True)

    message: str
    remedy: str


def socket_of(settings: Settings) -> Path:
    """Where a deployment's predictor listens."""
    return settings.predictor_socket or settings.state / "predictor.sock"
