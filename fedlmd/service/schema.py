"""The bodies of requests and answers, as /docs shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from fedlmd.detection import DriftState, Verdict
from fedlmd.service.contract import Role, RunState
from fedlmd.service.jobs import JobState

__all__ = [
    "AlarmBody",
    "AnswerBody",
    "BelowBody",
    "Choice",
    "DriftBody",
    "DriftCount",
    "ErrorBody",
    "ExplanationBody",
    "Health",
    "InferBody",
    "JobBody",
    "JobStarted",
    "ProgressBody",
    "ReleaseBody",
    "RunBody",
    "RunOrder",
    "RunStarted",
    "TrainOrder",
    "Trained",
]

PNG = "as a data URI, `data:image/png;base64,…`"


def as_text(label: object) -> object:
    """A whole number as the label that it is written as; anything else as it is."""
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


def distinct(labels: list[str]) -> list[str]:
    """The labels, refused where one comes twice."""
    for position, label in enumerate(labels):
        if label in labels[:position]:
            raise ValueError(f"label {label!r} is listed twice; list each label once")
    return labels


Label = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str | int),
    StringConstraints(min_length=1, max_length=200),
]
Labels = Annotated[
    list[Label], Field(min_length=2, max_length=1000, examples=[["0", "1", "2", "3", "4"]]), AfterValidator(distinct)
]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class ErrorBody(BaseModel):
    """What every error is answered with."""

    error: str = Field(description="What was wrong and what is allowed, in one sentence.")


class Order(BaseModel):
    """A request's JSON body; a field that is not known is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class TrainOrder(Order):
    """An order to train a worker on its own images."""

    labels_list: Labels = Field(description="The labels to learn: two or more, each once. Numbers are read as text.")
    directory: Folder | None = Field(
        None, description="A folder with `train/<label>/*.png` and `eval/<label>/*.png`, or just `<label>/*.png`."
    )
    directory_train: Folder | None = Field(None, description="Where the training images are, instead of `directory`.")
    directory_eval: Folder | None = Field(None, description="Where the evaluation images are, instead of `directory`.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of the training; the node's own by default.")


class Trained(BaseModel):
    """What a local training came to."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "accuracy": 99.1,
                "loss": 0.03,
                "accuracy classification model": 99.1,
                "loss classification model": 0.03,
                "release": "6995e2755e60",
                "seconds": 41.3,
                "images": 5139,
            }
        },
    )

    accuracy: float = Field(description="Share of the evaluation images that are classified rightly, in percent.")
    loss: float | None = Field(description="Mean cross-entropy on them, in nats; null where it is not finite.")
    accuracy_again: float = Field(
        serialization_alias="accuracy classification model", description="The same as `accuracy`."
    )
    loss_again: float | None = Field(serialization_alias="loss classification model", description="The same as `loss`.")
    release: str = Field(description="Id of the release that was made; it is the current one now.")
    seconds: float = Field(description="How long the training took.")
    images: int = Field(description="How many images were measured on.")


class ProgressBody(BaseModel):
    """How far a stage of a job has come."""

    stage: str = Field(description="What is being done.", examples=["classifier"])
    done: int = Field(description="Steps done in this stage.")
    total: int = Field(description="Steps of this stage in all.")
    metrics: dict[str, float | None] = Field(description="Latest figures by name.", examples=[{"loss": 0.12}])


class JobStarted(BaseModel):
    """A job that goes on by itself."""

    job: str = Field(description="The job's id.")
    state: JobState
    follow: str = Field(description="Where its progress is streamed.", examples=["/v1/jobs/3f2a9c01d4e5/events"])


class JobBody(BaseModel):
    """How a job stands."""

    id: str
    labels: list[str] = Field(description="What is learnt.")
    state: JobState
    progress: ProgressBody | None = Field(description="The stage that it is in; null before the first.")
    result: Trained | None = Field(description="Once it is finished.")
    error: str | None = Field(description="What went wrong, where it failed or was cancelled.")
    started: datetime
    finished: datetime | None


class ExplanationBody(BaseModel):
    """What the detector saw of an image, as pictures."""

    redrawn_as: str | None = Field(description="The label that the image was redrawn as; null for any known one.")
    image: str = Field(description=f"The image as the networks see it, {PNG}.")
    masks: list[str] = Field(description=f"What stayed visible (white) in each attempt, {PNG}.")
    reconstructions: list[str] = Field(description=f"How the rest was redrawn in each attempt, {PNG}.")
    median: str = Field(description=f"What the attempts agree on: the median of each pixel, {PNG}.")
    heat_map: str = Field(description=f"Where the image differs from it, dark to bright, {PNG}.")
    overview: str = Field(description=f"All of this in one picture, {PNG}.")


class AnswerBody(BaseModel):
    """What the node says of one image."""

    prediction: int | str = Field(
        description="The most probable label: a number where the label is a whole number's text, such as a digit; "
        "otherwise the label's text.",
        examples=[7],
    )
    is_ood: bool = Field(description="Whether the image is unlike all that was learnt: `score` exceeds `threshold`.")
    probabilities: dict[str, float] = Field(description="Of each label; they presume that the image is of a known one.")
    score: float = Field(description="How strange the image is; higher is stranger.")
    threshold: float | None = Field(
        description="The score above which an image is called unknown; null (none is) where too few images were at "
        "hand for so small an `alpha`."
    )
    p_value: float = Field(description="Share of known images that are at least as strange, in (0, 1].")
    alpha: float = Field(description="Share of known images that may be called unknown.")
    detector: str = Field(description="The score that decided.", examples=["verdict"])
    scores: dict[str, float] = Field(description="Every score that was computed.")
    release: str = Field(description="Id of the release that answered.")
    verdict: Verdict = Field(
        description="`unknown` where `is_ood`; `known` where the image is not strange and one label alone is "
        "plausible; `uncertain` elsewhere: a person should look."
    )
    explanation: ExplanationBody | None = Field(default=None, description="With `explain=true` only.")


class InferBody(AnswerBody):
    """The answer to /infer."""

    seconds: float = Field(description="How long the answer took, without the wait for others.")
    reference: AnswerBody | None = Field(default=None, description="The answer for `image_in`, where it was given.")


class ReleaseBody(BaseModel):
    """One release that the node holds."""

    id: str
    current: bool = Field(description="Whether it answers when no release is named.")
    pretrained: bool = Field(description="Whether it is the one that is shipped.")
    labels: list[str]
    metrics: dict[str, Any] = Field(examples=[{"accuracy": 0.991, "loss": 0.03, "images": 10000}])
    created: datetime
    size: int = Field(description="Of its weights, in bytes.")


class Choice(Order):
    """Which release shall be the current one."""

    release: str = Field(min_length=1, max_length=200, description="An id, or `pretrained`.")


class RunOrder(Order):
    """An order to train over all workers."""

    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the server's settings, nested as in a run's TOML file.",
        examples=[{"federation": {"rounds": 3}}],
    )
    labels: Labels | None = Field(None, description="What to learn; the settings' labels by default.")
    pretrained_detector: bool = Field(
        False, description="Take the detector's diffusion model from the shipped release; train the classifier alone."
    )
    resume: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Id of a run that failed or was stopped: go on after its last good round, by the plan that it was "
        "started with. Goes alone.",
    )

    @model_validator(mode="after")
    def goes_alone(self) -> Self:
        """A run's plan stays what it was."""
        if self.resume is not None and self.model_fields_set != {"resume"}:
            others = ", ".join(sorted(self.model_fields_set - {"resume"}))
            raise ValueError(f"a resumed run keeps the plan that it was started with; send resume without {others}")
        return self


class RunStarted(BaseModel):
    """A run that goes on by itself."""

    run: str = Field(description="The run's id.")
    state: RunState
    follow: str = Field(description="Where its events are streamed.")


class RunBody(BaseModel):
    """How a federated run stands."""

    id: str
    state: RunState
    round: int = Field(description="Rounds begun so far, 0 before the first.")
    rounds: int = Field(description="Rounds in all.")
    started: datetime
    release: str | None = Field(description="Id of the release that it made.")
    reason: str | None = Field(description="Why it failed.")


class AlarmBody(BaseModel):
    """That the images drift."""

    image: int = Field(description="Number of the image that raised the alarm, from 1.")
    since: int = Field(description="Number of the image that the drift began with, as far as can be told.")
    time: datetime = Field(description="When the alarm was raised.")


class BelowBody(BaseModel):
    """How many images were as strange as a level says."""

    level: float = Field(description="Of the p-value.", examples=[0.01])
    images: int = Field(description="How many had a p-value of at most that.")
    limit: float = Field(description="The largest share that the calibration can account for.", examples=[0.029])


class DriftBody(BaseModel):
    """Whether the images that the node is asked about are still like those of the release's calibration."""

    state: DriftState = Field(description="`drifting` from an alarm until `DELETE /v1/drift` or another release.")
    release: str = Field(description="Id of the current release; another one is watched anew.")
    images: int = Field(
        description="Images that count: those since `started` that the default verdict of this release was asked "
        "about without `watch=false`. One that was asked lately does not count again."
    )
    started: datetime = Field(description="When this watch began or was reset.")
    alarm: AlarmBody | None = Field(description="Null while steady.")
    alarms: int = Field(description="Alarms of this release so far, those included that were reset.")
    evidence: float = Field(description="Of drift: at most about `images` while they are steady.")
    threshold: float = Field(
        description="The evidence that raises an alarm. Steady images raise one in so many at most, on average."
    )
    luck: float = Field(description="Chance that the calibration was too unlucky for that promise.")
    below: list[BelowBody] = Field(description="What the evidence is drawn from.")


class DriftCount(BaseModel):
    """The drift watch in short."""

    state: DriftState
    images: int = Field(description="Images counted.")
    alarms: int = Field(description="Alarms of this release so far.")


class Health(BaseModel):
    """That the node is there, and what it does."""

    status: str = Field(examples=["ok"])
    name: str
    role: Role
    release: str | None = Field(description="Id of the current release; null without one.")
    training: bool = Field(description="Whether the trainer is at work.")
    progress: ProgressBody | None = Field(description="What the trainer is at; null when it rests.")
    jobs: int = Field(description="Local trainings that run now.")
    drift: DriftCount | None = Field(description="The drift watch; null before the current release is asked.")
    uptime: float = Field(description="Seconds since the service started.")
