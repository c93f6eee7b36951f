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
        store.table(f"by_emotion_{name}", method.decoding.by_emotion)
        store.table(f"auc_{name}", method.decoding.auc)
    if study.jeong:
        store.table("separation_jeong", study.jeong.separation.table)
    store.table("separation_jeong_reading", study.jeong_reading.separation.table)
    for name, versus in (("versus", study.versus), ("versus_preset", study.versus_preset)):
        if versus:
            store.table(f"{name}_by_layer", versus.table)
            store.table(name, versus.overall)
            store.table(f"{name}_pairs", versus.pairs)
    store.table("lens", study.lens.table)
    store.table("lens_scripts", study.lens.scripts)
    store.table("anisotropy", study.anisotropy.table)
    store.table("similarity", study.similarity.table)
    store.table("circumplex", study.circumplex.table)
    store.table("circumplex_correlations", study.circumplex.correlations)
    if study.steering:
        store.table("steering", study.steering.table)
        store.table("steering_texts", study.steering.texts)
        store.table("steering_unsteered", study.steering.unsteered)
        store.table("steering_forms", study.steering.forms)
        store.table("steering_by_emotion", study.steering.by_emotion)
        if study.steering.surgical_dose is not None:
            store.table("steering_side_effects", study.steering.side_effects().table)
    if study.leakage:
        store.table("leakage", study.leakage.table)
        store.table("leakage_scripts", study.leakage.scripts)
        if study.leakage.words is not None:
            store.table("leakage_words", study.leakage.words)


def file_name(method: str) -> str:
    """A method's name as part of a file name: "generation, reread" becomes "generation_reread"."""
    return method.replace(", ", "_").replace(" ", "_")
