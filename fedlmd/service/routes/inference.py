"""Predict an image: its class, and whether it is out of distribution."""

from __future__ import annotations

import base64
import time
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Response, UploadFile
from jaxtyping import Float, UInt8
from PIL.Image import Image
from pydantic_core import to_json
from torch import Tensor

from fedlmd.data import convert, to_pixels, to_unit_range
from fedlmd.inference import Prediction, Predictor, Row, channels_last, gallery, heat_map, heated, png
from fedlmd.release import VERDICT
from fedlmd.service.contract import Host, Refused
from fedlmd.service.schema import ErrorBody, ExplanationBody, InferBody, NearestBody
from fedlmd.service.state import Service, ServiceOf

router = APIRouter(tags=["inference"])


class Options(NamedTuple):
    """How an image is predicted: by which release, at which rate, by which score, with pictures or without."""

    release: str | None
    alpha: float | None
    detector: str
    explain: bool


RELEASE = "The release that predicts: an id, or `pretrained`; the current one by default."
ALPHA = "Share of known images that may be called unknown; the release's own by default."
DETECTOR = "The score that decides: `verdict`, `max-logit`, `one-step` or `lmd`."


def options(
    release: Annotated[str | None, Form(description=RELEASE)] = None,
    alpha: Annotated[float | None, Form(gt=0, lt=1, description=ALPHA)] = None,
    detector: Annotated[str | None, Form(description=DETECTOR)] = None,
    release_query: Annotated[str | None, Query(alias="release", description=RELEASE)] = None,
    alpha_query: Annotated[float | None, Query(alias="alpha", gt=0, lt=1, description=ALPHA)] = None,
    detector_query: Annotated[str | None, Query(alias="detector", description=DETECTOR)] = None,
    explain: Annotated[bool, Query(description="Add pictures of what the detector computed.")] = False,
) -> Options:
    """Each option from the form or the query; the form's wins."""
    alpha = alpha_query if alpha is None else alpha
    return Options(release or release_query or None, alpha, detector or detector_query or VERDICT, explain)


async def files(
    image: Annotated[
        UploadFile | None, File(description="The image: PNG, JPEG, BMP, WebP, GIF, TIFF or DICOM.")
    ] = None,
    image_out: Annotated[UploadFile | None, File(description="The same under its other name.")] = None,
    image_in: Annotated[UploadFile | None, File(description="A known image to compare with; optional.")] = None,
) -> list[bytes]:
    """The bytes of the image and, where it is given, of the reference."""
    given = [file for file in (image, image_out) if file is not None]
    if len(given) != 1:
        problem = "both were given" if given else "neither was given"
        raise HTTPException(400, f"send one image, as the file field image or image_out of a multipart form; {problem}")
    return [await file.read() for file in (*given, image_in) if file is not None]


@router.post(
    "/infer",
    response_model=InferBody,
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
) -> Response:
    """Classify an image and say whether it is out of distribution: of a class that was not trained on.

    Sizes, colours and depths other than the release's are converted by the release's rules; `changes` says what was.
    """
    arrived = time.monotonic()
    prediction, body = await run_sync(infer_files, service, images, chosen, watch, limiter=service.inference)
    p_value = prediction.p_value if watch and chosen.detector == VERDICT else None
    service.metrics.count(prediction.verdict, p_value, time.monotonic() - arrived)
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def infer_files(
    service: Service, files: list[bytes], chosen: Options, watch: bool
) -> tuple[Prediction, dict[str, Any]]:
    """Decode, predict, draw and count, in a thread; returns the image's prediction and the body of the response."""
    start = time.monotonic()
    predictor = service.host.releases.predictor(chosen.release)
    if chosen.detector not in predictor.choices:
        known = ", ".join(predictor.choices)
        raise Refused(f"there is no detector {chosen.detector!r:.40}; this release has {known}")
    converted = [convert(data, predictor.settings.pixel_rules) for data in files]
    images = to_unit_range(torch.stack([image.pixels for image in converted]))
    predictions = predictor.predict(images, alpha=chosen.alpha, detector=chosen.detector)
    bodies = [
        {**asdict(prediction), "changes": list(image.changes)}
        for prediction, image in zip(predictions, converted, strict=True)
    ]
    if chosen.explain:
        for number, body in enumerate(bodies):
            body["explanation"] = explanation(service.host, predictor, images[number : number + 1], predictions[number])
    if watch and chosen.detector == VERDICT:
        # The reference is not counted: its sender states that it is known.
        service.host.observe(predictions[0], predictor.references[VERDICT].count, images[0].numpy().tobytes())
    reference = {"reference": bodies[1]} if len(bodies) > 1 else {}
    return predictions[0], {**bodies[0], "seconds": round(time.monotonic() - start, 4), **reference}


def explanation(
    host: Host, predictor: Predictor, image: Float[Tensor, "1 c h w"], prediction: Prediction
) -> dict[str, Any]:
    """What the detector computed, as pictures, and the node's own images nearest to the image."""
    seen, nearest = predictor.explain(image), host.nearest(predictor, image)
    drawn = seen.redrawings
    body = ExplanationBody(
        redrawn_as=seen.redrawn_as,
        image=data_uri(to_pixels(image[0])),
        masks=[] if drawn is None else [data_uri(keep.byte() * 255) for keep in drawn.keep],
        reconstructions=[] if drawn is None else [data_uri(to_pixels(copy)) for copy in drawn.reconstructions],
        median=None if drawn is None else data_uri(to_pixels(drawn.median)),
        heat_map=data_uri(heat_map(seen.heat.numpy(), seen.brightest)),
        overlay=data_uri(heated(image[0], seen)),
        nearest=[
            NearestBody(label=each.label, distance=round(each.distance, 4), image=data_uri(each.pixels))
            for each in nearest
        ],
        overview=data_uri(gallery([Row(image[0], seen, prediction, nearest=nearest)])),
    )
    return body.model_dump()


def data_uri(picture: UInt8[Tensor, "c h w"] | UInt8[np.ndarray, "h w 3"] | Image) -> str:
    """A picture as the data URI of a PNG."""
    drawn = channels_last(picture.numpy()) if isinstance(picture, Tensor) else picture
    return "data:image/png;base64," + base64.b64encode(png(drawn)).decode()
