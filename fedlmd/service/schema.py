"""The bodies of requests and responses, as /docs shows them and as the node exchanges them with the service."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from fedlmd.calibration import DriftState
from fedlmd.inference import Prediction
from fedlmd.progress import Progress
from fedlmd.service.labels import Folder, Labels
from fedlmd.service.participants import ConnectionBody, DataBody

Role = Literal["server", "worker"]
RunState = Literal["running", "finished", "failed", "stopped"]
JobState = Literal["running", "finished", "failed", "cancelled"]

PNG = "as a data URI, `data:image/png;base64,…`"


class ErrorBody(BaseModel):
    """The body of every error."""

    error: str = Field(description="What was wrong and what is allowed, in one sentence.")


class Order(BaseModel):
    """A request's JSON body; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class TrainOrder(Order):
    """An order to train a worker on its own images."""

    labels_list: Labels = Field(description="The labels to train on: two or more, each once. Numbers are read as text.")
    directory: Folder | None = Field(
        None, description="A folder with `train/<label>/*.png` and `eval/<label>/*.png`, or just `<label>/*.png`."
    )
    directory_train: Folder | None = Field(None, description="Where the training images are, instead of `directory`.")
    directory_eval: Folder | None = Field(None, description="Where the evaluation images are, instead of `directory`.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of the training; the node's own by default.")

    @property
    def training(self) -> str | None:
        """Source of the training images; None for the node's own."""
        return self.directory_train or self.directory

    @property
    def evaluation(self) -> str | None:
        """Source of the evaluation images; None for the evaluation part of the training source."""
        return self.directory_eval or self.directory


class Trained(BaseModel):
    """The result of a local training."""

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

    accuracy: float = Field(description="Share of the evaluation images that are classified correctly, in percent.")
    loss: float | None = Field(description="Mean cross-entropy on them, in nats; null where it is not finite.")
    accuracy_again: float = Field(
        serialization_alias="accuracy classification model", description="The same as `accuracy`."
    )
    loss_again: float | None = Field(serialization_alias="loss classification model", description="The same as `loss`.")
    release: str = Field(description="Id of the release that was made; it is the current one now.")
    seconds: float = Field(description="How long the training took.")
    images: int = Field(description="How many images were measured on.")

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Trained:
        """A result's metrics as the response's body; shares become percent."""
        accuracy, loss = round(100 * metrics["accuracy"], 4), rounded(metrics["loss"])
        return cls(
            accuracy=accuracy,
            loss=loss,
            accuracy_again=accuracy,
            loss_again=loss,
            release=metrics["release"],
            seconds=round(metrics["seconds"], 3),
            images=metrics["images"],
        )


def rounded(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return round(value, 6) if math.isfinite(value) else None


class ProgressBody(BaseModel):
    """Progress of a stage of a job."""

    stage: str = Field(description="The stage.", examples=["classifier"])
    done: int = Field(description="Steps done in this stage.")
    total: int = Field(description="Steps of this stage in all.")
    metrics: dict[str, float | None] = Field(description="Latest metrics by name.", examples=[{"loss": 0.12}])

    @classmethod
    def of(cls, progress: Progress) -> ProgressBody:
        """Progress as the response's body."""
        metrics = {name: rounded(value) for name, value in progress.metrics.items()}
        return cls(stage=progress.stage, done=progress.done, total=progress.total, metrics=metrics)


class JobStarted(BaseModel):
    """A job that has started."""

    job: str = Field(description="The job's id.")
    state: JobState
    follow: str = Field(description="Where its progress is streamed.", examples=["/v1/jobs/3f2a9c01d4e5/events"])


class JobBody(BaseModel):
    """State of a job."""

    id: str
    labels: list[str] = Field(description="Labels of the classifier.")
    state: JobState
    progress: ProgressBody | None = Field(description="The stage that it is in; null before the first.")
    result: Trained | None = Field(description="Once it is finished.")
    error: str | None = Field(description="What went wrong, where it failed or was cancelled.")
    started: datetime
    finished: datetime | None


class NearestBody(BaseModel):
    """A known image of the worker that was asked."""

    label: str = Field(description="Its label.")
    distance: float = Field(description="Between the unit-length embeddings of the two images, 0 to 2.")
    image: str = Field(description=f"The known image, {PNG}.")


class ExplanationBody(BaseModel):
    """What the detector computed for an image, as pictures.

    Latents of an encoder cannot be shown: for a release with one there are the heat-map and the image alone.
    """

    redrawn_as: str | None = Field(description="The label that the reconstruction was conditioned on; null for none.")
    image: str = Field(description=f"The image as the networks see it, {PNG}.")
    masks: list[str] = Field(description=f"What stayed visible (white) in each attempt, {PNG}.")
    reconstructions: list[str] = Field(description=f"The reconstruction of the rest in each attempt, {PNG}.")
    median: str | None = Field(description=f"The median of the reconstructions, pixel by pixel, {PNG}.")
    heat_map: str = Field(description=f"Where the image differs from the median, dark to bright, {PNG}.")
    overlay: str = Field(description=f"The heat-map laid over the image, {PNG}.")
    overview: str = Field(description=f"All of this in one picture, {PNG}.")
    nearest: list[NearestBody] = Field(
        description="The worker's own training images that are nearest to the image, where its settings allow to show "
        "them (`data.nearest`)."
    )


@dataclass(frozen=True, kw_only=True)
class PredictionBody(Prediction):
    """The prediction of one image."""

    changes: list[str] = field(default_factory=list)
    """How the image was converted, in a few words each; empty where every pixel was kept."""
    explanation: ExplanationBody | None = None
    """With `explain=true` only."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema, with the descriptions of inherited fields: pydantic reads a class's own docstrings only."""
        reference = handler(schema)
        properties = handler.resolve_ref_schema(reference)["properties"]
        for base in cls.__bases__:
            for name, inherited in TypeAdapter(base).json_schema()["properties"].items():
                properties[name]["description"] = inherited["description"]
        return reference


@dataclass(frozen=True, kw_only=True)
class InferBody(PredictionBody):
    """The response to /infer."""

    seconds: float
    """How long the prediction took, without the wait for others."""
    reference: PredictionBody | None = None
    """The prediction of `image_in`, where it was given."""


class ReleaseSummary(BaseModel):
    """One release that the node holds."""

    id: str
    current: bool = Field(description="Whether it predicts when no release is named.")
    pretrained: bool = Field(description="Whether it ships with the package.")
    labels: list[str]
    metrics: dict[str, Any] = Field(examples=[{"accuracy": 0.991, "loss": 0.03, "images": 10000}])
    created: datetime
    size: int = Field(description="Of its weights, in bytes.")


class Choice(Order):
    """Which release becomes the current one."""

    release: str = Field(min_length=1, max_length=200, description="An id, or `pretrained`.")


class RunOrder(Order):
    """An order to train over all workers."""

    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the server's settings, nested as in a run's TOML file.",
        examples=[{"federation": {"rounds": 3}}],
    )
    labels: Labels | None = Field(None, description="Labels to train on; the settings' by default.")
    pretrained_detector: bool = Field(
        False, description="Take the detector's diffusion model from the shipped release; train the classifier alone."
    )
    resume: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Id of a run that failed or was stopped: it continues after its last good round, with the plan "
        "that it was started with. No other field may be given.",
    )

    @model_validator(mode="after")
    def resume_excludes_others(self) -> Self:
        """A resumed run keeps its plan."""
        if self.resume is not None and self.model_fields_set != {"resume"}:
            others = ", ".join(sorted(self.model_fields_set - {"resume"}))
            raise ValueError(f"a resumed run keeps the plan that it was started with; send resume without {others}")
        return self


class RunStarted(BaseModel):
    """A run that has started."""

    run: str = Field(description="The run's id.")
    state: RunState
    follow: str = Field(description="Where its events are streamed.")


class RunSummary(BaseModel):
    """State of a federated run."""

    id: str
    state: RunState
    round: int = Field(description="Rounds begun so far, 0 before the first.")
    rounds: int = Field(description="Rounds in all.")
    started: datetime
    release: str | None = Field(description="Id of the release that it made.")
    reason: str | None = Field(description="Why it failed.")
    workers: int | None = Field(
        None, description="Once it is finished: how many workers' updates its last round averaged."
    )
    expected: int | None = Field(None, description="Once it is finished: how many workers a round asked at most.")


class DriftCount(BaseModel):
    """State of the drift watch, in short."""

    state: DriftState = Field(description="`repeating`: the same images come again and again; is a camera stuck?")
    images: int = Field(description="Images counted.")
    alarms: int = Field(description="Alarms of this release so far.")


class Health(BaseModel):
    """State of the node."""

    status: str = Field(examples=["ok"])
    name: str
    role: Role
    release: str | None = Field(description="Id of the current release; null without one.")
    training: bool = Field(description="Whether the trainer is busy.")
    progress: ProgressBody | None = Field(description="What the trainer does; null when it is idle.")
    jobs: int = Field(description="Local trainings that are running.")
    drift: DriftCount | None = Field(description="The drift watch; null before the release's first prediction.")
    uptime: float = Field(description="Seconds since the service started.")
    data: DataBody | None = Field(description="At a worker: its own images; null at the server.")
    connected: bool | None = Field(description="At a worker: whether the server accepts it; null at the server.")
    connection: ConnectionBody | None = Field(description="At a worker: how it stands with its server.")
    workers: int | None = Field(
        description="At the server: number of workers connected; null at a worker, and while Flower does not respond."
    )
