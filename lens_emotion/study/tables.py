"""Every number of a model's results as CSV, in its run folder."""

from __future__ import annotations

from lens_emotion.study.results import ModelStudy
from lens_emotion.study.store import Store


def write_tables(study: ModelStudy, store: Store) -> None:
    """Write the tables of all results of one model."""
    for method in study.methods:
        name = file_name(method.name)
        store.table(f"decoding_{name}", method.decoding.table)
        store.table(f"separation_{name}", method.separation.table)
        store.table(f"reliability_{name}", method.reliability.table)
        store.table(f"confusion_{name}", method.decoding.confusion.rename_axis("true").reset_index())
    if study.jeong:
        store.table("separation_jeong", study.jeong.separation.table)
    store.table("anisotropy", study.anisotropy.table)
    store.table("similarity", study.similarity.table)
    store.table("circumplex", study.circumplex.table)
    store.table("circumplex_correlations", study.circumplex.correlations)
    if study.steering:
        store.table("steering", study.steering.table)
        store.table("steering_texts", study.steering.texts)
        store.table("steering_unsteered", study.steering.unsteered)


def file_name(method: str) -> str:
    """A method's name as part of a file name: "generation, reread" becomes "generation_reread"."""
    return method.replace(", ", "_").replace(" ", "_")
