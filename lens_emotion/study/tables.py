"""Every number of a model's results as CSV, in its run folder."""

from __future__ import annotations

import pandas as pd

from lens_emotion.run.store import Store
from lens_emotion.study.results import ModelStudy


def write_tables(study: ModelStudy, store: Store) -> None:
    """Write the tables of all results of one model, and remove those that this study does not have."""
    tables = tables_of(study)
    for name, frame in tables.items():
        store.table(name, frame)
    store.only_tables(tables)


def tables_of(study: ModelStudy) -> dict[str, pd.DataFrame]:
    """File name -> table."""
    found: dict[str, pd.DataFrame] = {}
    for method in study.methods:
        name = file_name(method.name)
        found[f"decoding_{name}"] = method.decoding.table
        found[f"separation_{name}"] = method.separation.table
        found[f"reliability_{name}"] = method.reliability.table
        found[f"confusion_{name}"] = method.decoding.confusion.rename_axis("true").reset_index()
        found[f"by_emotion_{name}"] = method.decoding.by_emotion
        found[f"auc_{name}"] = method.decoding.auc
    if study.jeong:
        found["separation_jeong"] = study.jeong.separation.table
    found["separation_jeong_reading"] = study.jeong_reading.separation.table
    for name, versus in (("versus", study.versus), ("versus_preset", study.versus_preset)):
        if versus:
            found[f"{name}_by_layer"] = versus.table
            found[name] = versus.overall
            found[f"{name}_pairs"] = versus.pairs
    found["lens"] = study.lens.table
    found["lens_scripts"] = study.lens.scripts
    found["anisotropy"] = study.anisotropy.table
    found |= _geometry(study)
    for i, text in enumerate(study.atlas.texts, 1):
        found[f"tokens_{i}"] = pd.concat([scores.table.assign(layer=scores.layer) for scores in text.scores])
    if study.steering:
        found["steering"] = study.steering.table
        found["steering_texts"] = study.steering.texts
        found["steering_unsteered"] = study.steering.unsteered
        found["steering_forms"] = study.steering.forms
        found["steering_by_emotion"] = study.steering.by_emotion
        if study.side_effects:
            found["steering_side_effects"] = study.side_effects.table
    if study.leakage:
        found["leakage"] = study.leakage.table
        found["leakage_scripts"] = study.leakage.scripts
        if study.leakage.words is not None:
            found["leakage_words"] = study.leakage.words
    return found


def _geometry(study: ModelStudy) -> dict[str, pd.DataFrame]:
    """Who is like whom, and the circumplex where the emotions are rated."""
    found: dict[str, pd.DataFrame] = {}
    found["similarity"] = study.similarity.table
    if not isinstance(study.circumplex, str):
        found["circumplex"] = study.circumplex.table
        found["circumplex_correlations"] = study.circumplex.correlations
        by_layer = [c.correlations.assign(layer=c.layer) for c in study.atlas.circumplex]
        found["circumplex_by_layer"] = pd.concat(by_layer)
    found["similarity_by_layer"] = study.atlas.similarity.table
    return found


def file_name(method: str) -> str:
    """A method's name as part of a file name: "generation, reread" becomes "generation_reread"."""
    return method.replace(", ", "_").replace(" ", "_")
