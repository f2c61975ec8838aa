"""Predictions by the blocking and by the asyncio client."""

import asyncio

import pytest

from photoz_client import AsyncPhotozClient, PhotozClient, PredictionIncomplete, Retries

ROWS = 4  # per request, by the fixture `small_requests`
NO_DELAY = Retries(base_delay=0.0)


def blocking(url, images, *, retries=NO_DELAY, timeout=30.0, in_flight=4, api_key=None, **options):
    with PhotozClient(url, retries=retries, timeout=timeout, in_flight=in_flight, api_key=api_key) as client:
        return client.predict(images, **options)


def asynchronous(url, images, *, retries=NO_DELAY, timeout=30.0, in_flight=4, api_key=None, **options):
    async def predict():
        client = AsyncPhotozClient(url, retries=retries, timeout=timeout, in_flight=in_flight, api_key=api_key)
        async with client:
            return await client.predict(images, **options)

    return asyncio.run(predict())


def incomplete(predict, *arguments, **options):
    with pytest.raises(PredictionIncomplete) as caught:
        predict(*arguments, **options)
    return caught.value


def bins(prediction):
    """Row numbers, which `answers.prediction` puts into the PDFs."""
    return prediction.pdf.argmax(axis=1).tolist()
