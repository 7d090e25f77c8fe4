"""Answer an image: its class, and whether it is unlike all that was learnt."""

from __future__ import annotations

import base64
import math
import time
from typing import Annotated, NamedTuple

import torch
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, UploadFile
from jaxtyping import Float
from torch import Tensor

from fedlmd.answer import VERDICT, Answer, Answerer
from fedlmd.data import decode_image, to_pixels, to_unit_range
from fedlmd.pictures import Row, channels_last, heat_map, overview, png
from fedlmd.service.contract import Refused
from fedlmd.service.schema import AnswerBody, ErrorBody, ExplanationBody, InferBody
from fedlmd.service.state import Service, ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["inference"])


class Options(NamedTuple):
    """How an image is to be answered: by which release, at which rate, by which score, with pictures or without."""

    release: str | None
    alpha: float | None
    detector: str
    explain: bool


RELEASE = "The release that answers: an id, or `pretrained`; the current one by default."
ALPHA = "Share of known images that may be called unknown; the release's own by default."
DETECTOR = "The score that decides: `verdict`, `max-logit`, `one-step` or `lmd`."


def options(
    release: Annotated[str | None, Form(description=RELEASE)] = None,
    alpha: Annotated[float | None, Form(gt=0, lt=1, description=ALPHA)] = None,
    detector: Annotated[str | None, Form(description=DETECTOR)] = None,
    release_query: Annotated[str | None, Query(alias="release", description=RELEASE)] = None,
    alpha_query: Annotated[float | None, Query(alias="alpha", gt=0, lt=1, description=ALPHA)] = None,
    detector_query: Annotated[str | None, Query(alias="detector", description=DETECTOR)] = None,
    explain: Annotated[bool, Query(description="Answer with pictures of what the detector saw.")] = False,
) -> Options:
    """Each option from the form or the query; the form's wins."""
    alpha = alpha_query if alpha is None else alpha
    return Options(release or release_query or None, alpha, detector or detector_query or VERDICT, explain)


async def files(
    image: Annotated[UploadFile | None, File(description="The image: PNG, JPEG, BMP, WebP or GIF.")] = None,
    image_out: Annotated[UploadFile | None, File(description="The same under its other name.")] = None,
    image_in: Annotated[UploadFile | None, File(description="A known image to compare with; optional.")] = None,
) -> list[bytes]:
    """The bytes of the image and, where it is given, of the reference."""
    given = [file for file in (image, image_out) if file is not None]
    if len(given) != 1:
        found = "both were given" if given else "neither was given"
        raise HTTPException(400, f"send one image, as the file field image or image_out of a multipart form; {found}")
    return [await file.read() for file in (*given, image_in) if file is not None]


@router.post(
    "/infer",
    response_model=InferBody,
    response_model_exclude_unset=True,
    responses={
        400: {"model": ErrorBody, "description": "No image, or two."},
        404: {"model": ErrorBody, "description": "No such release."},
        413: {"model": ErrorBody, "description": "The body or the image is too large."},
        422: {"model": ErrorBody, "description": "Not an image, or an option out of range."},
        503: {"model": ErrorBody, "description": "There is no release yet."},
    },
)
async def infer(
    images: Annotated[list[bytes], Depends(files)],
    chosen: Annotated[Options, Depends(options)],
    service: ServiceOf,
    watch: Annotated[bool, Query(description="False keeps test images out of the drift watch.")] = True,
) -> InferBody:
    """Classify an image and say whether it is of a class that was never learnt.

    Sizes, colours and depths other than the release's are converted: white ink on black is expected.
    """
    arrived = time.monotonic()
    body = await run_sync(answer, service, images, chosen, watch, limiter=service.inference)
    p_value = body.p_value if watch and chosen.detector == VERDICT else None
    service.metrics.count(body.verdict, p_value, time.monotonic() - arrived)
    return body


def answer(service: Service, files: list[bytes], chosen: Options, watch: bool) -> InferBody:
    """Decode, answer, draw, count; in a thread."""
    start = time.monotonic()
    answerer = service.host.answerer(chosen.release)
    if chosen.detector not in answerer.choices:
        known = ", ".join(answerer.choices)
        raise Refused(f"there is no detector {chosen.detector!r:.40}; this release has {known}")
    size, channels = answerer.settings.image_size, answerer.settings.channels
    images = to_unit_range(torch.stack([decode_image(data, size, channels) for data in files]))
    answers = answerer.answer(images, alpha=chosen.alpha, detector=chosen.detector)
    bodies = [answer_body(of) for of in answers]
    if chosen.explain:
        for number, body in enumerate(bodies):
            body.explanation = explanation(answerer, images[number : number + 1], answers[number])
    if watch and chosen.detector == VERDICT:
        # The reference is not traffic: whoever sends it says that it is known.
        service.host.observe(answers[0], answerer.sketches[VERDICT].count, images[0].numpy().tobytes())
    fields = {name: getattr(bodies[0], name) for name in bodies[0].model_fields_set}
    if len(bodies) > 1:
        fields["reference"] = bodies[1]
    return InferBody(**fields, seconds=round(time.monotonic() - start, 4))


def answer_body(answer: Answer) -> AnswerBody:
    """An answer as JSON has it."""
    return AnswerBody(
        prediction=as_number(answer.prediction),
        is_ood=answer.is_ood,
        probabilities=answer.probabilities,
        score=answer.score,
        threshold=answer.threshold if math.isfinite(answer.threshold) else None,
        p_value=answer.p_value,
        alpha=answer.alpha,
        detector=answer.detector,
        scores=answer.scores,
        release=answer.release,
        verdict=answer.verdict,
    )


def as_number(label: str) -> int | str:
    """A label that is a whole number's text as that number: "7" is 7, but "07" stays text."""
    digits = label.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 16
    return int(label) if plain and str(int(label)) == label else label


def explanation(answerer: Answerer, image: Float[Tensor, "1 c h w"], answer: Answer) -> ExplanationBody:
    """What the detector saw, as pictures."""
    seen = answerer.explain(image)
    return ExplanationBody(
        redrawn_as=seen.redrawn_as,
        image=data_uri(png(channels_last(to_pixels(image[0]).numpy()))),
        masks=[data_uri(png(channels_last(keep.numpy().astype("uint8") * 255))) for keep in seen.keep],
        reconstructions=[data_uri(png(channels_last(to_pixels(copy).numpy()))) for copy in seen.reconstructions],
        median=data_uri(png(channels_last(to_pixels(seen.median).numpy()))),
        heat_map=data_uri(png(heat_map(seen.heat.numpy()))),
        overview=data_uri(png(overview(Row(image[0], seen, answer)))),
    )


def data_uri(picture: bytes) -> str:
    """A PNG as a URI that a page can show."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()
