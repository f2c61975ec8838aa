"""What all requests of a worker share: settings, the model and its batcher, limits, metrics and job queues."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.responses import Response

from photoz.errors import PhotozError
from photoz.images import Batch
from photoz.inference.predictor import Predictor, refuse_missing_pdfs
from photoz.model.bundle import ModelBundle
from photoz.protocol.contract import MODEL_HEADER, READING_HEADERS
from photoz.validation import unpacked_limit
from service import logs
from service.batcher import Columns, DynamicBatcher
from service.errors import error_response
from service.files import FileReader
from service.jobs import JobQueue
from service.limits import Limits
from service.metrics import Metrics
from service.request import Request
from service.resources import lower_priority
from service.settings import Settings
from service.shared import SharedTables
from service.sky import SkyArchive
from service.steps import span

MAX_READING = 1000  # characters of each header that says what was done with a file

# Evaluations that run or wait, in all and of one client: the last of them waits for minutes at worst.
MAX_EVALUATIONS, MAX_EVALUATIONS_OF_CLIENT = 12, 8

# Evaluations after which the child that draws is replaced.
EVALUATIONS_OF_CHILD = 50


class State:
    """The state of a worker that serves one model; raises `PhotozError` if the bundle or another file is unusable."""

    def __init__(self, settings: Settings) -> None:
        bundle = ModelBundle.load(settings.bundle)
        self.settings, self.card = settings, bundle.card
        self.model_label = f"{bundle.card.name} {bundle.card.version}".encode("unicode_escape").decode()
        self.card_json = bundle.card.model_dump_json().encode()
        self.max_bytes = min(unpacked_limit(bundle.card, settings.max_rows), settings.max_body_bytes)
        self.metrics = Metrics(bundle.card)
        self.limits = Limits(settings, self.metrics)
        with ThreadPoolExecutor(1, initializer=lower_priority) as executor:  # the engine starts its threads from there
            predictor = executor.submit(
                Predictor.load,
                bundle,
                engine=settings.engine,
                threads=settings.threads,
                recalibrate=settings.calibration == "on",
                warm_up=True,
            ).result()
        self.batcher = DynamicBatcher(
            self.metrics.measure_inference(predictor.run_network), self.metrics.measure_estimates(predictor.summarise)
        )
        self.evaluations = JobQueue(
            "evaluations run or wait", MAX_EVALUATIONS, MAX_EVALUATIONS_OF_CLIENT, max_tasks=EVALUATIONS_OF_CHILD
        )
        self.archive = SkyArchive(settings.sky, bundle.card.image)
        self.shared = SharedTables()
        self.files = FileReader(bundle.card.image)
        self._add_gauges()
        keys = self.limits.keys
        logs.log_start(self.model_label, settings, None if keys is None else keys.n_keys)

    def _add_gauges(self) -> None:
        add, limits, settings = self.metrics.add_gauge, self.limits, self.settings
        add("photoz_queue_rows", "Galaxies that wait for the network", lambda: self.batcher.queued_rows)
        add("photoz_requests_in_flight", "Requests in flight", lambda: limits.in_flight.total)
        add("photoz_request_memory_bytes", "Held by requests", lambda: limits.memory.used_bytes)
        add("photoz_log_dropped_lines", "Lines of the log that were dropped", logs.dropped_lines)
        add("photoz_documented_memory_bytes", "Needed at most", lambda: settings.documented_memory_bytes)

    async def respond(self, endpoint: "Endpoint", request: Request) -> Response:
        """Return the response of an endpoint, also if it raises a `PhotozError`, with the headers of all endpoints."""
        try:
            response = await endpoint(request, self)
        except PhotozError as error:
            response = error_response(error)
        response.headers[MODEL_HEADER] = self.model_label
        for name, texts in vars(request.reading).items():
            if texts:
                response.headers[READING_HEADERS[name]] = (
                    "; ".join(texts).encode("unicode_escape").decode()[:MAX_READING]
                )
        return response

    async def predict_columns(self, request: Request, batch: Batch, columns: frozenset[str]) -> Columns:
        """Compute columns of the estimates, and the PDFs; raises `InvalidImages` if the network overflows."""
        request.rows += len(batch)
        with span("predict"):
            computed = await self.batcher.predict(batch, columns | {"pdf"})
        refuse_missing_pdfs(computed["pdf"])
        return computed


Endpoint = Callable[[Request, State], Awaitable[Response]]


def state_of(app: Starlette) -> State:
    """Return the state of an application."""
    state: State = app.state.photoz
    return state
