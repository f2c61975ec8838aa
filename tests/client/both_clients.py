"""Predictions by the blocking and by the asyncio client."""

import asyncio

import pytest

from photoz_client import AsyncPhotozClient, PhotozClient, PredictionIncomplete, Retries

ROWS = 4  # per request, by the fixture `small_requests`
NO_DELAY = Retries(base_delay=0.0)

PREDICT_OPTIONS = ("pdf", "progress", "ebv", "object_id")


def _split(options):
    """Divide the options into those of the client and those of its `predict`."""
    of_predict = {name: options.pop(name) for name in PREDICT_OPTIONS if name in options}
    return {"retries": NO_DELAY, **options}, of_predict


def blocking(url, images, **options):
    client_options, predict_options = _split(options)
    with PhotozClient(url, **client_options) as client:
        return client.predict(images, **predict_options)


def asynchronous(url, images, **options):
    client_options, predict_options = _split(options)

    async def predict():
        async with AsyncPhotozClient(url, **client_options) as client:
            return await client.predict(images, **predict_options)

    return asyncio.run(predict())


def incomplete(predict, *arguments, **options):
    with pytest.raises(PredictionIncomplete) as caught:
        predict(*arguments, **options)
    return caught.value


def bins(prediction):
    """Row numbers, which `answers.prediction` puts into the PDFs."""
    return prediction.pdf.argmax(axis=1).tolist()
