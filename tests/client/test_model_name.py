"""The name of the service's model: requested once, and again when another model has replaced it."""

import pytest

from photoz_client import NotAuthorised, PhotozClient, RequestRefused, UnexpectedResponse
from tests.client.answers import INFER_PATH, error, first_row, model_index, numbered_cutouts, prediction
from tests.client.both_clients import ROWS, bins, incomplete
from tests.client.misbehaving_server import serve

pytestmark = pytest.mark.usefixtures("small_requests")


def test_each_client_requests_the_name_once(predict):
    with serve(prediction) as server:
        predict(server.url, numbered_cutouts(9 * ROWS), in_flight=3)
        assert server.n_index_requests == 1
        with PhotozClient(server.url) as client:
            client.predict(numbered_cutouts(1))
            client.predict(numbered_cutouts(3 * ROWS))
        assert server.n_index_requests == 2
    assert {request.url.path for request in server.requests} == {INFER_PATH}


class _Restarted:
    """A service whose model can be replaced."""

    name = "old"

    def index(self):
        return model_index(self.name)

    def __call__(self, request):
        if request.url.path != f"/v2/models/{self.name}/infer":
            return error(404, f"there is no such model here; expected model {self.name}")
        return prediction(request, f"{self.name} 1")


def test_a_replaced_model_is_found_under_its_new_name():
    service = _Restarted()
    with serve(service) as server, PhotozClient(server.url) as client:
        server.index = service.index
        assert client.predict(numbered_cutouts(1)).model == "old 1"
        service.name = "new"
        result = client.predict(numbered_cutouts(3 * ROWS), pdf=True)
    assert result.model == "new 1"
    assert bins(result) == list(range(3 * ROWS))


def test_a_named_model_that_does_not_exist_is_requested_twice(predict):
    with serve(lambda request: error(404, "no such model")) as server:
        with pytest.raises(RequestRefused, match="^no such model$") as caught:
            predict(server.url, numbered_cutouts(ROWS))
        assert (server.n_index_requests, len(server.requests)) == (2, 2)
    assert caught.value.status == 404


def test_no_cutouts_are_sent_without_the_name(predict):
    with serve(prediction) as server:
        server.index = lambda: error(401)
        with pytest.raises(NotAuthorised):
            predict(server.url, numbered_cutouts(100 * ROWS), in_flight=2)
        assert (server.n_index_requests, len(server.requests)) == (1, 0)


def test_rows_of_two_models_are_not_mixed(predict):
    def changing(request):
        return prediction(request, "photoz 1" if first_row(request) < 2 * ROWS else "photoz 2")

    with serve(changing) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(20 * ROWS), in_flight=2, pdf=True)
    assert bins(caught.prediction) == list(range(2 * ROWS))
    assert isinstance(caught.failed[0].error, UnexpectedResponse)
    assert "changed its model between two requests, from photoz 1 to photoz 2" in str(caught)
