"""Pictures of many requests through one model: what arrives while a batch is scored becomes the next batch."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from inference.predictor import Prediction, Predictor


class Batches:
    """Scores pictures in one thread, as many at once as wait, up to the predictor's batch size.

    Args:
        predictor: that scores.
        scored: called with the number of pictures of each batch.
    """

    def __init__(self, predictor: Predictor, scored: Callable[[int], None]) -> None:
        self.predictor, self.scored = predictor, scored
        self.waiting: asyncio.Queue[tuple[Image.Image, asyncio.Future[Prediction]]] = asyncio.Queue()

    async def predict(self, image: Image.Image) -> Prediction:
        """Wait for a picture's turn, and for what the model says of it."""
        answer = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((image, answer))
        return await answer

    async def run(self) -> None:
        """Score what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                batch = [await self.waiting.get()]
                while len(batch) < self.predictor.batch_size and not self.waiting.empty():
                    batch.append(self.waiting.get_nowait())
                images = [image for image, _ in batch]
                found = await loop.run_in_executor(thread, self.predictor.predict_each, images)
                for (_, answer), prediction in zip(batch, found, strict=True):
                    if answer.cancelled():
                        continue
                    if isinstance(prediction, Exception):
                        answer.set_exception(prediction)
                    else:
                        answer.set_result(prediction)
                self.scored(len(batch))
