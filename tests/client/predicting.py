"""Predictions by either client, as the tests of the parts make them."""

import asyncio

import pytest

from photoz_client import AsyncPhotozClient, PhotozClient, PredictionIncomplete, Retries

ROWS = 4  # in one request, by the fixture `few_rows`
AT_ONCE = Retries(base_delay=0.0)

PREDICT_OPTIONS = ("pdf", "progress", "ebv", "object_id")


def _sorted_out(options):
    """Tell the options of the client from those of its `predict`."""
    of_predict = {name: options.pop(name) for name in PREDICT_OPTIONS if name in options}
    return {"retries": AT_ONCE, **options}, of_predict


def blocking(url, images, **options):
    client_options, predict_options = _sorted_out(options)
    with PhotozClient(url, **client_options) as client:
        return client.predict(images, **predict_options)


def asynchronous(url, images, **options):
    client_options, predict_options = _sorted_out(options)

    async def predict():
        async with AsyncPhotozClient(url, **client_options) as client:
            return await client.predict(images, **predict_options)

    return asyncio.run(predict())


def incomplete(predict, *arguments, **options):
    with pytest.raises(PredictionIncomplete) as caught:
        predict(*arguments, **options)
    return caught.value


def bins(prediction):
    return prediction.pdf.argmax(axis=1).tolist()
