"""A judge from a file, in TOML or JSON (`JudgeForm`).

    kind = "words"                       # or "encoder", "classifier" with model = "FOLDER or hub id"
    [words.de]                           # language -> emotion -> words that belong to it alone
    traurig = ["weint", "Tränen"]
    "wütend" = ["schreit", "Faust"]

A classifier may have a table `labels`: emotion -> its labels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lens_emotion.errors import StimulusError
from lens_emotion.files.names import Name, Text, name_of
from lens_emotion.files.read import kind_of
from lens_emotion.files.user import Form, UserFile, is_user_file, read_user_file
from lens_emotion.steering.judges import Judge, encoder_judge, load_encoder, word_count_judge
from lens_emotion.stimuli.sets import StimulusSet

Words = Annotated[list[Text], Field(min_length=1, description="a word or a stem")]


class JudgeForm(Form, title="Judge"):
    """Who says which emotion a steered text shows: word lists, an encoder or a classifier."""

    kind: Literal["words", "encoder", "classifier"]
    name: Name = Field("word lists", description="printed with every verdict")
    words: dict[Name, dict[Name, Words]] = Field(
        {}, min_length=1, description="language -> emotion -> words that belong to it alone"
    )
    model: Name = Field("", description="folder (taken from this file's place) or hub id")
    revision: Name = Field("", description="branch, tag or commit on the hub")
    labels: dict[Name, Words] = Field({}, min_length=2, description="emotion -> the classifier's labels")


def read_judge_file(path: str | Path) -> UserFile[JudgeForm]:
    """Read and check the form of a judge file; nothing is loaded.

    Raises:
        StimulusError: a fault of syntax or form, a kind without what it needs, with file and line.
    """
    file = read_user_file(path, JudgeForm)
    kind, needed = file.data.kind, "words" if file.data.kind == "words" else "model"
    if not getattr(file.data, needed):
        file.fail(("kind",), f'a judge of kind {kind} needs "{needed}"; add it')
    if kind == "words" and len(words_of(file)) < 2:
        file.fail(("words",), "words of one emotion only; a judge needs two at least")
    return file


def words_of(file: UserFile[JudgeForm]) -> dict[str, tuple[str, ...]]:
    """Emotion -> its words in every language of the file."""
    found: dict[str, tuple[str, ...]] = {}
    for by_emotion in file.data.words.values():
        for emotion, words in by_emotion.items():
            found[name_of(emotion)] = (*found.get(name_of(emotion), ()), *words)
    return found


def judge_from_file(path: str | Path, labelled: StimulusSet) -> Judge:
    """The judge that a file describes, its accuracy measured on labelled texts.

    Args:
        path: TOML or JSON.
        labelled: texts whose emotions are known.

    Raises:
        StimulusError: a faulty file, or no labelled text of an emotion that the judge knows.
        ModelUnavailableError: its model cannot be loaded.

    Example:
        >>> from pathlib import Path
        >>> said = '{"kind": "words", "words": {"en": {"calm": ["quiet"], "angry": ["shout"]}}}'
        >>> _ = Path("judge.json").write_text(said)
        >>> le.judge_from_file("judge.json", le.load_stimuli("passages")).emotions
        ('calm', 'angry')
    """
    file = read_judge_file(path)
    form, folder = file.data, _model(file)
    if form.kind == "words":
        return word_count_judge(words_of(file), labelled, form.name)
    if form.kind == "encoder":
        return encoder_judge(folder, labelled)
    from lens_emotion.steering.classifier_judge import classifier_judge

    return classifier_judge(folder, _labels(file), labelled, revision=form.revision or None)


def check_judge(name: str, wanted: set[str]) -> None:
    """Find out whether a judge, a file or an encoder, is there and knows these emotions: what it needs is loaded, and
    let go again, since a study asks for its judge only after hours.

    Raises:
        StimulusError: a faulty file, or emotions that the judge does not know.
        UnsupportedModelError: a decoder as an encoder. ModelUnavailableError: its model cannot be loaded.
    """
    if not is_user_file(name):
        load_encoder(name)
        return
    file = read_judge_file(name)
    known = wanted
    if file.data.kind == "words":
        known = set(words_of(file))
    elif file.data.kind == "encoder":
        load_encoder(_model(file))
    else:
        from lens_emotion.steering.classifier_judge import load_classifier

        known = set(load_classifier(_model(file), _labels(file), file.data.revision or None)[-1])
    if missing := sorted(wanted - known):
        raise StimulusError(f"the judge {name} knows no {', '.join(missing)}, towards which is steered; add it")


def _labels(file: UserFile[JudgeForm]) -> Any:
    return {name_of(e): tuple(found) for e, found in file.data.labels.items()} or "auto"


def _model(file: UserFile[JudgeForm]) -> str:
    """The folder beside the file, if there is one; else a hub id."""
    beside = file.beside(file.data.model)
    return beside if kind_of(beside) == "a folder" else file.data.model


def judge_content(name: str) -> list[list[Any]] | None:
    """What a judge depends on beside its name: a file's text, names and sizes of a folder's files."""
    found: list[list[Any]] = []
    folder = Path(name)
    if kind_of(folder) == "a file":
        file = read_judge_file(folder)
        found.append([folder.name, hashlib.sha256(file.text.encode()).hexdigest()])
        folder = Path(_model(file)) if file.data.model else folder
    if kind_of(folder) == "a folder":
        found += [[p.name, p.stat().st_size] for p in sorted(folder.iterdir()) if p.is_file()]
    return found or None
