"""verify_run: every checksum of a run folder, read again from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lens_emotion.checksums import FILE as SUMS
from lens_emotion.checksums import Damage, damages, read_sums
from lens_emotion.errors import ArtifactError
from lens_emotion.study.step_store import ASIDE, PARTIAL, RECORD, step_damages

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Verification:
    """What a run folder's checksums say.

    Attributes:
        n_files: files that have a checksum.
        damages: those that are not what was written.
        notes: what is no damage, but worth knowing.
    """

    path: Path
    n_files: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]


def check_is_run(path: str | Path) -> Path:
    """The folder of a run.

    Raises:
        ArtifactError: it is none.
    """
    root = Path(path)
    if not (root / MANIFEST).is_file():
        raise ArtifactError(
            f"{root} is no run folder (no {MANIFEST}); `lens-emotion runs FOLDER` lists those there are"
        )
    return root


def step_folders(root: Path) -> list[Path]:
    """Stored steps of all models of a run, those kept under other settings included."""
    places = [*root.glob(f"*/*/{RECORD}"), *root.glob(f"*/*/{SUMS}"), *root.glob(f"*/*/*/{RECORD}")]
    folders = {p.parent for p in places} | {p.parent for p in root.glob(f"*/*/*/{SUMS}")}
    return sorted(f for f in folders if ASIDE not in f.parts and f.parent != root)


def verify_run(path: str | Path) -> Verification:
    """Check every file of a run that has a checksum.

    Raises:
        ArtifactError: no run folder.
    """
    root = check_is_run(path)
    found, n_files, notes = damages(root), len(read_sums(root)[0]), []
    if not (root / SUMS).is_file():
        notes.append("no checksums of tables and figures: written by an older version, or the study has not got so far")
    for folder in step_folders(root):
        found += step_damages(folder)
        n_files += len(read_sums(folder)[0])
    notes += [f"set aside as damaged earlier: {p}" for p in sorted(root.glob(f"*/{ASIDE}/*"))]
    notes += [f"finished batches of a step that is not done: {p}" for p in sorted(root.glob(f"*/{PARTIAL}/*.journal"))]
    return Verification(root, n_files, tuple(found), tuple(notes))
