import pytest
from pydantic import ValidationError

from photoz.protocol.contract import EvaluateOptions, EvaluateRequest, PredictRequest


@pytest.mark.parametrize(
    ("option", "allowed", "refused"), [("num_images", (1, 36), (0, 37)), ("seed", (0, 2**32 - 1), (-1, 2**32))]
)
def test_limits_of_evaluate_options(option, allowed, refused):
    for value in allowed:
        assert getattr(EvaluateOptions(**{option: value}), option) == value
    for value in refused:
        with pytest.raises(ValidationError):
            EvaluateOptions(**{option: value})


def test_validation_stops_at_the_first_wrong_element():
    with pytest.raises(ValidationError) as error:
        EvaluateRequest(z_spec=["a", "b", "c"])
    assert error.value.error_count() == 1


@pytest.mark.parametrize("fields", [{"object_id": ["x" * 257]}, {"flux": 1}, {"pdf": "maybe"}])
def test_invalid_fields_are_refused(fields):
    assert PredictRequest(images=[], object_id=["x" * 256]).pdf is False
    with pytest.raises(ValidationError):
        PredictRequest(images=[], **fields)
