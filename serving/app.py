"""The service: which addresses there are, and what each answers. docs/serve.md tells it to users."""

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from artifacts import run_info
from artifacts.model_card import rounded
from artifacts.monitoring.drift import Recent
from images.reading import UnreadableImage, open_rgb
from inference import overlay
from inference.predictor import Prediction, Predictor
from serving import bodies
from serving.batches import Batches
from serving.measures import Measures

LOGGER = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
PAGE_MAY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:; "
PAGE_MAY += "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PREDICT = "/predict"
CHOICES = {"map": ("npy", "png"), "overlay": ("jpg", "png")}  # what a request may ask for, beside the verdict
RETRY_SECONDS = 1
SHOWN = 200  # last pictures whose drift the page shows
DECODED_BATCHES = 2  # decoded pictures are in memory of so many batches: one is scored, the next is made ready


class Service:
    """Answers requests about one model.

    Args:
        predictor: the model.
        most_waiting: requests that are under way at once; further ones are sent away.
        most_bytes: of a body.

    Attributes:
        ending: set it when the service is about to end, so that clients leave.
        accepted, answered: how many pictures came in, and how many of them got an answer or a refusal.
    """

    def __init__(self, predictor: Predictor, most_waiting: int, most_bytes: int) -> None:
        self.predictor, self.most_waiting, self.most_bytes = predictor, most_waiting, most_bytes
        self.ending = False
        self.accepted = self.answered = self.under_way = 0
        self.measures = Measures()
        self.measures.under_way.set_function(lambda: self.under_way)
        self.batches = Batches(predictor, self.measures.batches.observe)
        self.recent = Recent()
        self.drifts: deque[float] = deque(maxlen=SHOWN)
        self.decoded = asyncio.Semaphore(DECODED_BATCHES * predictor.batch_size)
        self.about = _about(predictor)

    def application(self) -> Starlette:
        """Return what a server runs."""
        routes = [
            Route("/", self.page),
            Route(PREDICT, self.predict, methods=["POST"]),
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/metrics", self.metrics),
            Route("/drift", self.drift),
        ]
        handlers = {HTTPException: self.refuse, Exception: self.fail}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._running)

    async def predict(self, request: Request) -> Response:
        """Score the picture that is posted."""
        wanted = _wanted(request.query_params)
        if self.under_way >= self.most_waiting:
            line = f"{self.most_waiting} pictures wait already: send it again later."
            raise HTTPException(503, line, {"Retry-After": str(RETRY_SECONDS)})
        self.under_way += 1
        try:
            with self.measures.seconds.time():
                answer = await self._answer(await bodies.picture(request, self.most_bytes), wanted)
        finally:
            self.under_way -= 1
        self._count(request, 200)
        return self._respond(answer)

    async def health(self, request: Request) -> Response:
        """Say whether pictures may be sent."""
        if self.ending:
            raise HTTPException(503, "The service is ending.")
        return self._respond(b'{"status": "ok"}')

    async def version(self, request: Request) -> Response:
        """Say which model answers, and on what."""
        return self._respond(json.dumps(self.about).encode())

    async def metrics(self, request: Request) -> Response:
        """Give Prometheus its numbers."""
        return Response(self.measures.text(), media_type=self.measures.content_type)

    async def drift(self, request: Request) -> Response:
        """Give the drift of the last pictures, the oldest first."""
        return self._respond(json.dumps({"limit": 1, "drift": list(self.drifts)}).encode())

    async def page(self, request: Request) -> Response:
        """Give the page on which a person tries the model."""
        return FileResponse(PAGE, headers={"Content-Security-Policy": PAGE_MAY, "X-Content-Type-Options": "nosniff"})

    async def refuse(self, request: Request, error: HTTPException) -> Response:
        """Answer what is wrong with a request, in a line."""
        self._count(request, error.status_code)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def fail(self, request: Request, error: Exception) -> Response:
        """Answer that the fault is here; the server logs it."""
        self._count(request, 500)
        return JSONResponse({"error": "The picture could not be scored: the service's log says why."}, 500)

    @asynccontextmanager
    async def _running(self, application: Starlette) -> AsyncIterator[None]:
        scoring = asyncio.create_task(self.batches.run())
        yield
        scoring.cancel()

    async def _answer(self, content: bytes, wanted: dict[str, str]) -> bytes:
        self.accepted += 1
        try:
            async with self.decoded:
                image = await run_in_threadpool(open_rgb, content, self.predictor.bits)
                prediction = await self.batches.predict(image)
                self.measures.verdicts.labels(prediction.verdict).inc()
                self.measures.scores.observe(prediction.score)
                self._watch(prediction.drift)
                return await run_in_threadpool(self._describe, image, prediction, wanted)
        except UnreadableImage as error:
            raise HTTPException(422, str(error)) from error
        finally:
            self.answered += 1

    def _describe(self, image: Image.Image, prediction: Prediction, wanted: dict[str, str]) -> bytes:
        """Write a picture's answer as JSON."""
        limits = self.predictor.limits
        marked = self.predictor.regions(prediction.map)
        answer = {
            "score": float(rounded(prediction.score)),
            "calibrated": prediction.calibrated,
            "verdict": prediction.verdict,
            "threshold": None if limits is None else limits.score,
            "width": image.width,
            "height": image.height,
            "like_training": self.predictor.is_like_training(image),
            "drift": prediction.drift,
            "area": sum(region.area for region in marked),
            "boxes": [region._asdict() for region in marked],
        }
        if "map" in wanted:
            answer["map"] = _text(overlay.encode_map(prediction.map, wanted["map"]))
        if "overlay" in wanted:
            drawn = overlay.draw(np.asarray(image), prediction, self.predictor)
            answer["overlay"] = _text(overlay.encode(drawn, f"overlay.{wanted['overlay']}"))
        return json.dumps(answer).encode()

    def _watch(self, drift: float | None) -> None:
        """Note a picture's drift; log a line when pictures cease to look like those of the training."""
        if drift is None:
            return
        self.drifts.append(drift)
        self.measures.drift.set(drift)
        line = self.recent.add(drift)
        if line:
            LOGGER.warning("%s", line)

    def _count(self, request: Request, status: int) -> None:
        if request.url.path == PREDICT:
            self.measures.answers.labels(status).inc()

    def _respond(self, content: bytes) -> Response:
        headers = {"Connection": "close"} if self.ending else None
        return Response(content, headers=headers, media_type="application/json")


def _wanted(given: Mapping[str, str]) -> dict[str, str]:
    """Return what a request asks for beside the verdict.

    Raises:
        HTTPException: what is not known.
    """
    for name, value in given.items():
        if value not in CHOICES.get(name, ()):
            known = ", ".join(f"{key}={choice}" for key, choices in CHOICES.items() for choice in choices)
            raise HTTPException(422, f"{name}={value} is not known: give {known} or nothing.")
    return dict(given)


def _about(predictor: Predictor) -> dict[str, Any]:
    """Describe the model and the program."""
    card, limits = predictor.engine.card, predictor.limits
    return {
        "model": card.name,
        "checkpoint": card.checkpoint.sha256,
        "made": card.provenance.date,
        "threshold": None if limits is None else limits._asdict(),
        "versions": run_info.versions(),
        "git": run_info.git_state(),
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
