"""A run: plan it or take it up again, score what is missing, and finish its manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from photoz.errors import InvalidInput
from photoz.inference.engines import KERAS, engine_records
from photoz.inference.openvino import runs
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, chunks, find_inputs
from photoz_survey.manifest import NAME, Manifest, Plan, Settings, check_same, read_manifest, versions
from photoz_survey.parts import DONE, REJECTED, missing
from photoz_survey.storage import Folder
from photoz_survey.summary import Summary, summarise


@dataclass(frozen=True)
class Run:
    """A plan, and the folder in which it is carried out."""

    plan: Plan
    bundle: ModelBundle
    folder: Folder
    chunks: tuple[Chunk, ...]

    @classmethod
    def begin(cls, paths: Iterable[str], bundle: Path, settings: Settings, url: str, *, resume: bool) -> "Run":
        """Plan a run and write its manifest or, with `resume`, check that nothing has changed.

        Raises `InvalidInput` if the folder holds another run, or with `resume` if it has none or something has changed;
        `InvalidDataset` if there is no input; `InvalidBundle`.
        """
        loaded, folder = ModelBundle.load(bundle), Folder(url)
        plan = make_plan(paths, loaded, settings)
        begun = _begun(folder)
        if begun is None:
            if resume:
                raise InvalidInput(f"{url} holds no {NAME}: leave out --resume")
            folder.write(NAME, _json(Manifest(plan=plan, versions=versions())))
        elif not resume:
            raise InvalidInput(f"{url} holds a run already: give --resume, or another folder")
        else:
            check_same(begun.plan, plan)
        return cls(plan, loaded, folder, tuple(chunks(plan.inputs, settings.rows_per_part)))

    @property
    def n_rows(self) -> int:
        """Number of rows, as far as they are known before the files are scored."""
        return sum(one.n_rows or 0 for one in self.plan.inputs)

    def missing(self) -> list[Chunk]:
        """Return the chunks that are not scored yet; removes what is left of those that were being written."""
        for kind in (DONE, REJECTED):
            self.folder.remove_incomplete(kind)
        return missing(self.folder, self.chunks)

    def finish(self) -> Summary:
        """Read all parts again, and complete the manifest."""
        summary = summarise(self.folder, (chunk.number for chunk in self.chunks), self.bundle.card)
        manifest = Manifest(plan=self.plan, versions=versions(), is_complete=True, parts=tuple(summary.parts))
        self.folder.write(NAME, _json(manifest))
        return summary


def make_plan(paths: Iterable[str], bundle: ModelBundle, settings: Settings) -> Plan:
    """Plan to score files with a model; raises `InvalidDataset` if there is none."""
    card = bundle.card
    return Plan(
        model=f"{card.name} {card.version}",
        digest=card.digest,
        engine=_engine(bundle),
        grid=card.grid,
        settings=settings,
        inputs=tuple(find_inputs(paths)),
    )


def _engine(bundle: ModelBundle) -> str:
    """Return the name of the engine that this machine uses."""
    records = engine_records(bundle)
    return next((record.name for record in records if runs(record.precision)), KERAS)


def _begun(folder: Folder) -> Manifest | None:
    try:
        return read_manifest(folder.read(NAME), f"{folder.url}/{NAME}")
    except FileNotFoundError:
        return None


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode() + b"\n"
