"""Settings of the service, read from environment variables `PHOTOZ_*`."""

import ipaddress
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from photoz.cpus import available_cpus
from photoz.errors import InvalidInput
from service.resources import available_memory

ROOT = Path(__file__).resolve().parents[1]

# For numpy in the worker and its children: one thread is enough for the arithmetic around the network, which has
# threads of its own (PHOTOZ_THREADS).
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# For the allocators of the worker, glibc's and granian's jemalloc, where the operator has not chosen: by default they
# keep the memory of large requests, in a heap for each thread (docs/decisions.md).
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
    "_RJEM_MALLOC_CONF": "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true",
}

MIB = 1024 * 1024

# Bytes that granian reads from a connection at a time and holds at most, so that it bounds the head of a request. A
# smaller buffer makes large uploads slower.
HEADER_BUFFER_BYTES = 256 * 1024

# Memory of one instance without request bodies, with the shipped network: half a GB after half an hour of load.
BASE_MEMORY_BYTES = 550_000_000

SIMILAR = 0.85  # of two names, by `difflib`

EngineName = Literal["auto", "openvino", "openvino-int8", "openvino-bf16", "openvino-f32", "keras"]


def _networks(value: str) -> str:
    for network in filter(None, map(str.strip, value.split(","))):
        ipaddress.ip_network(network)  # raises a ValueError that says what is wrong
    return value


Switch = Literal["on", "off"]
Seconds = Annotated[float, Field(ge=0.01, le=86_400.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Settings of one worker; a field `name` is the environment variable `PHOTOZ_NAME` (docs/operations.md)."""

    model_config = SettingsConfigDict(env_prefix="PHOTOZ_", env_ignore_empty=True, frozen=True)

    bundle: Path = ROOT / "models" / "photoz"
    engine: EngineName = "auto"
    threads: PositiveInt = Field(default_factory=available_cpus)
    max_rows: PositiveInt = 4096
    calibration: Switch = "on"
    evaluation_timeout: Seconds = 60.0
    access_log: Switch = "off"
    log_format: Literal["json", "text"] = Field(default_factory=lambda: "text" if sys.stderr.isatty() else "json")
    api_keys_file: Path | None = None
    sky: str | None = None
    drain_seconds: Annotated[NonNegativeFloat, Field(le=3600.0)] = 1.0
    # An eighth of the memory of this process, between 64 MiB and 1 GiB. Predicting takes up to as much again.
    max_memory_bytes: PositiveInt = Field(
        default_factory=lambda: min(max(available_memory() // 8, 64 * MIB), 1024 * MIB), le=1024 * 1024 * MIB
    )
    max_body_bytes: PositiveInt = Field(default_factory=lambda fields: max(fields.get("max_memory_bytes", 2) // 2, 1))
    max_in_flight: PositiveInt = 128
    transfer_timeout: Seconds = 300.0  # for a body to arrive
    request_timeout: Seconds = 300.0  # from there to the end of the response
    header_timeout: Seconds = 10.0  # for a head to arrive, and for an idle connection
    max_header_bytes: Annotated[PositiveInt, Field(ge=1024, le=HEADER_BUFFER_BYTES)] = 32 * 1024
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    allowed_hosts: str = ""

    @property
    def documented_memory_bytes(self) -> int:
        """Bytes that an instance needs at most, whatever the requests."""
        return BASE_MEMORY_BYTES + 2 * self.max_memory_bytes

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the service in the header Host, in lower case; none if any will do."""
        return tuple(filter(None, map(str.strip, self.allowed_hosts.lower().split(","))))

    @classmethod
    def misspelt_variables(cls) -> dict[str, str]:
        """Return misspelt variables, each with the closest setting; others may be Kubernetes' or the client's."""
        known = [f"PHOTOZ_{name.upper()}" for name in cls.model_fields]
        near = {name: get_close_matches(name, known, 1, SIMILAR) for name in os.environ if name not in known}
        return {name: closest[0] for name, closest in near.items() if closest}

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; raises `InvalidInput` that names the variable that cannot be used."""
        if "PHOTOZ_API_KEYS_FILE" in os.environ and not os.environ["PHOTOZ_API_KEYS_FILE"].strip():
            raise InvalidInput("PHOTOZ_API_KEYS_FILE is empty: unset it to serve without keys, or name their file")
        try:
            settings = cls()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            variable, message = f"PHOTOZ_{str(first['loc'][0]).upper()}", first["msg"].removeprefix("Value error, ")
            raise InvalidInput(
                f"{variable}={first['input']} cannot be used: {message[:1].lower()}{message[1:]}"
            ) from error
        if settings.max_body_bytes > settings.max_memory_bytes:
            raise InvalidInput(
                f"PHOTOZ_MAX_BODY_BYTES={settings.max_body_bytes} cannot be used: expected at most "
                f"PHOTOZ_MAX_MEMORY_BYTES, {settings.max_memory_bytes}"
            )
        return settings
