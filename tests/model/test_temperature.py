"""Calibrated probabilities, against figures whose temperature is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet.manifest import Calibration
from alexnet.postprocess import softmax
from export.temperature import LEAST, calibrate_probabilities, calibration_error, fit
from tests.networks import photos, random_model

CLASSES = 10


def answers(temperature: float, count: int = 20_000) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits that are `temperature` times too sure, and classes drawn by the true probabilities."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, CLASSES)).astype(np.float32)
    cumulated = softmax(logits).cumsum(1)
    targets = (cumulated < random.random((count, 1)) * cumulated[:, -1:]).sum(1)
    return logits * np.float32(temperature), targets


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_is_found(temperature: float) -> None:
    assert fit(*answers(temperature)) == pytest.approx(temperature, rel=0.03)


def test_the_error_is_how_far_probabilities_are_from_being_right() -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0] * 4 + [1] * 6)) == pytest.approx(0.5)
    halves = np.concatenate([sure, np.array([[0.4, 0.6]] * 10)])  # two bins, 0.5 and 0.1 off
    assert calibration_error(halves, np.array([0] * 4 + [1] * 6 + [1] * 5 + [0] * 5)) == (
        pytest.approx(0.3)
    )


def test_probabilities_that_are_too_sure_become_honest_and_keep_their_order() -> None:
    logits, targets = answers(3.0)
    before = calibration_error(softmax(logits), targets)
    honest = (logits / fit(logits, targets)).astype(np.float32)
    after = calibration_error(softmax(honest), targets)
    assert before > 0.1
    assert after < 0.01


@pytest.mark.usefixtures("narrow")
def test_the_temperature_goes_into_the_last_layer() -> None:
    model = random_model("alexnet")
    crops = photos(model.crop, 4)
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(crops)).numpy()
    many = np.resize(logits, (LEAST, logits.shape[1]))
    targets = np.arange(LEAST) % 7
    fitted = calibrate_probabilities(model, many, targets)
    assert isinstance(fitted, Calibration)
    assert (fitted.photos, fitted.error <= fitted.error_before) == (LEAST, True)
    with torch.inference_mode():
        after = model.deployable(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(after * fitted.temperature, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("narrow")
def test_too_few_photos_change_nothing() -> None:
    model = random_model("alexnet")
    weight = model.network.layers[-1].weight.clone()
    logits = np.zeros((LEAST - 1, 100), np.float32)
    assert calibrate_probabilities(replace(model), logits, np.zeros(LEAST - 1, np.int64)) is None
    assert torch.equal(weight, model.network.layers[-1].weight)
