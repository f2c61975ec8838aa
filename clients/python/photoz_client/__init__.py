"""Client of the photo-z service: arrays of galaxy cutouts in, redshift estimates as arrays out.

::

    with PhotozClient("http://127.0.0.1:3000") as client:
        prediction = client.predict(images, ebv=ebv)
    prediction.z_mean
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from photoz_client._api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        return getattr(import_module("photoz_client._api"), name)

    def __dir__() -> list[str]:
        return [*globals(), *import_module("photoz_client._api").__all__]
