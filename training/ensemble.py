"""Ensembles: several networks of one recipe whose PDFs are averaged, as one Keras model."""

from dataclasses import replace
from pathlib import Path

import keras
from keras import layers

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.ood import FEATURES
from training.fit import Fitted, fit
from training.recipes import TrainingSettings


def fit_ensemble(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, settings: TrainingSettings, run: Path, *, resume: bool
) -> Fitted:
    """Train `settings.seeds` networks one after another, with the parameters of `training.fit.fit`.

    A single network is trained in `run`, several in `run/seed-0`, `run/seed-1` and so on; a resumed run does not train
    finished networks again. The result is the network, or the average of all with the longest history.
    """
    if settings.seeds == 1:
        return fit(cutouts, spec, grid, settings, run, resume=resume)
    members = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        single = replace(settings, seed=seed, seeds=1)
        members.append(fit(cutouts, spec, grid, single, run / f"seed-{seed}", resume=resume))
    longest = max((member.history for member in members), key=len)
    return replace(members[0], network=average([member.network for member in members]), history=longest)


def average(models: list[keras.Model]) -> keras.Model:
    """Combine networks into one that returns the mean of their PDFs and shares their weights.

    The networks have the same inputs, and each has a layer "features": its PDF depends only on that and on E(B-V). The
    layer "features" of the result concatenates theirs.
    """
    inputs = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in models[0].inputs}
    parts = [_halves(model, number) for number, model in enumerate(models)]
    member_features = [trunk(inputs) for trunk, _ in parts]
    features = layers.Concatenate(name=FEATURES)(member_features)
    others = [tensor for name, tensor in inputs.items() if name != "images"]
    pdfs, start = [], 0
    for (_, head), member in zip(parts, member_features, strict=True):
        stop = start + member.shape[-1]
        pdfs.append(head([features[:, start:stop], *others]))
        start = stop
    return keras.Model(inputs, layers.Average(name="average")(pdfs), name=f"{models[0].name}_average")


def _halves(model: keras.Model, number: int) -> tuple[keras.Model, keras.Model]:
    """Split a network at its features: inputs -> features, and features and other inputs than the images -> PDF."""
    inputs = {tensor.name: tensor for tensor in model.inputs}
    features = model.get_layer(FEATURES).output
    others = [tensor for name, tensor in inputs.items() if name != "images"]
    return (
        keras.Model(inputs, features, name=f"trunk_{number}"),
        keras.Model([features, *others], model.output, name=f"head_{number}"),
    )
