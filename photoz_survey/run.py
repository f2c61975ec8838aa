"""A run of ``photoz score``: begin or resume it, list the chunks that are not scored, and complete its manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from photoz.errors import InvalidInput
from photoz.inference.engines import KERAS, engine_records
from photoz.inference.openvino import runs
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk, chunks, find_inputs
from photoz_survey.manifest import NAME, Manifest, Plan, ScoreOptions, check_same, read_manifest, versions
from photoz_survey.parts import DONE, REJECTED, part_name
from photoz_survey.storage import Folder
from photoz_survey.summary import Summary, summarise


@dataclass(frozen=True)
class Run:
    """A plan, and the folder of its results."""

    plan: Plan
    bundle: ModelBundle
    folder: Folder
    chunks: tuple[Chunk, ...]

    @classmethod
    def begin(cls, paths: Iterable[str], bundle: Path, options: ScoreOptions, url: str, *, resume: bool) -> "Run":
        """Plan a run and write its manifest; with `resume`, check that the plan has not changed instead.

        Raises `InvalidInput` if the folder holds a run already or, with `resume`, if it has none or the plan has
        changed; `InvalidDataset` if there is no input; `InvalidBundle`.
        """
        loaded, folder = ModelBundle.load(bundle), Folder(url)
        plan = make_plan(paths, loaded, options)
        try:
            manifest = read_manifest(folder.read(NAME), f"{url}/{NAME}")
        except FileNotFoundError as error:
            if resume:
                raise InvalidInput(f"{url} holds no {NAME}: leave out --resume") from error
            folder.write(NAME, _json(Manifest(plan=plan, versions=versions())))
        else:
            if not resume:
                raise InvalidInput(f"{url} holds a run already: give --resume, or another folder")
            check_same(manifest.plan, plan)
        return cls(plan, loaded, folder, tuple(chunks(plan.inputs, options.rows_per_part)))

    def missing(self) -> list[Chunk]:
        """Return the chunks that are not scored yet; removes files that were not written to the end."""
        for kind in (DONE, REJECTED):
            self.folder.remove_incomplete(kind)
        done = set(self.folder.names(DONE))
        return [chunk for chunk in self.chunks if part_name(chunk.number) not in done]

    def finish(self) -> Summary:
        """Read all parts, and complete the manifest."""
        summary = summarise(self.folder, (chunk.number for chunk in self.chunks), self.bundle.card)
        manifest = Manifest(plan=self.plan, versions=versions(), is_complete=True, parts=tuple(summary.parts))
        self.folder.write(NAME, _json(manifest))
        return summary


def make_plan(paths: Iterable[str], bundle: ModelBundle, options: ScoreOptions) -> Plan:
    """Plan to score files by a model; raises `InvalidDataset` if there is no file."""
    card = bundle.card
    return Plan(
        model=f"{card.name} {card.version}",
        digest=card.digest,
        engine=_engine(bundle),
        grid=card.grid,
        settings=options,
        inputs=tuple(find_inputs(paths)),
    )


def _engine(bundle: ModelBundle) -> str:
    """Return the name of the engine that this processor runs."""
    records = engine_records(bundle)
    return next((record.name for record in records if runs(record.precision)), KERAS)


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode() + b"\n"
