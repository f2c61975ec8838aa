"""The name of the service's model: asked for once, and again when another model has taken its place."""

import pytest
from predicting import ROWS, bins, incomplete
from unruly import good, names, numbered, refusal, serving
from v2_answers import INFER_PATH

from photoz_client import (
    NotAuthorised,
    PhotozClient,
    RequestRefused,
    UnexpectedResponse,
)

pytestmark = pytest.mark.usefixtures("few_rows")


def test_the_name_of_the_model_is_asked_for_once_by_a_client(predict):
    with serving(good) as server:
        predict(server.url, numbered(9 * ROWS), in_flight=3)
        assert server.asked_for_names == 1
        with PhotozClient(server.url) as client:
            client.predict(numbered(1))
            client.predict(numbered(3 * ROWS))
        assert server.asked_for_names == 2
    assert {asked.path for asked in server.asked} == {INFER_PATH}


def test_a_name_that_is_no_part_of_a_path_is_quoted(predict):
    with serving(good) as server:
        server.tell_names = lambda: names("a/b c?")
        predict(server.url, numbered(1))
        assert [asked.path for asked in server.asked] == ["/v2/models/a%2Fb%20c%3F/infer"]


class _Restarted:
    """Answers under one name until it is told to go on under another."""

    def __init__(self):
        self.name = "old"

    def tell(self):
        return names(self.name)

    def __call__(self, asked):
        if asked.path != f"/v2/models/{self.name}/infer":
            return refusal(404, f"there is no such model here; expected model {self.name}")
        return good(asked, f"{self.name} 1")


def test_a_service_that_came_back_with_another_model_is_asked_under_its_new_name():
    service = _Restarted()
    with serving(service) as server, PhotozClient(server.url) as client:
        server.tell_names = service.tell
        assert client.predict(numbered(1)).model == "old 1"
        service.name = "new"
        prediction = client.predict(numbered(3 * ROWS), pdf=True)
    assert prediction.model == "new 1"
    assert bins(prediction) == list(range(3 * ROWS))


def test_a_service_that_comes_back_with_another_model_amid_a_prediction_costs_the_rest(predict):
    service = _Restarted()

    def restarting(asked):
        if asked.first == 2 * ROWS:
            service.name = "new"
        return service(asked)

    with serving(restarting) as server:
        server.tell_names = service.tell
        error = incomplete(predict, server.url, numbered(20 * ROWS), in_flight=1, pdf=True)
    assert bins(error.prediction) == list(range(2 * ROWS))
    assert "changed its model between two requests, from old 1 to new 1" in str(error)


def test_a_service_that_has_not_the_model_that_it_names_is_asked_twice(predict):
    with serving(lambda asked: refusal(404, "no such model")) as server:
        with pytest.raises(RequestRefused, match="^no such model$") as caught:
            predict(server.url, numbered(ROWS))
        assert (server.asked_for_names, len(server.asked)) == (2, 2)
    assert caught.value.status == 404


def test_a_service_that_does_not_tell_the_name_of_its_model_is_sent_no_cutouts(predict):
    with serving(good) as server:
        server.tell_names = lambda: refusal(401)
        with pytest.raises(NotAuthorised):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert (server.asked_for_names, len(server.asked)) == (1, 0)


def test_a_service_without_a_key_is_asked_by_each_request_in_flight_once(predict):
    with serving(lambda asked: refusal(401)) as server:
        with pytest.raises(NotAuthorised):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert len(server.asked) <= 2


def test_rows_of_two_models_are_not_mixed(predict):
    with serving(lambda asked: good(asked, "photoz 1" if asked.first < 2 * ROWS else "photoz 2")) as server:
        error = incomplete(predict, server.url, numbered(20 * ROWS), in_flight=2, pdf=True)
    assert bins(error.prediction) == list(range(2 * ROWS))
    assert isinstance(error.failed[0].error, UnexpectedResponse)
    assert "changed its model between two requests, from photoz 1 to photoz 2" in str(error)
