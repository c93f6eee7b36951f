"""Labelled texts in the shapes in which people hold them: a table, dicts, texts with labels, CSV or JSON lines.

Whatever it is becomes columns, then rows of the same form as those of a stimulus file (`sets.ItemRow`). A library's
table is known by what it can do (`to_pandas`), so that none of them need be installed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.errors import StimulusError
from lens_emotion.files.read import as_path, read_text, strict_json
from lens_emotion.files.user import fitting, plain
from lens_emotion.stimuli.sets import Stimulus, StimulusFile, StimulusForm, StimulusSet, item_of, read_stimulus_file

Data = StimulusSet | str | Path | pd.DataFrame | Mapping[Any, Any] | Iterable[Any]  # texts in any shape
Columns = dict[str, list[Any]]
Given = str | Iterable[Any] | None  # a column's name, or values, one per text
Names = Mapping[Any, str] | Sequence[str] | None  # of labels that are numbers
# What a column is called that holds it; the first is never doubted.
GUESSES: dict[str, tuple[str, ...]] = {
    "text": ("text", "texts", "sentence", "story", "passage", "content", "utterance", "document", "review", "tweet"),
    "emotion": ("emotion", "emotions", "label", "labels", "label_text", "class", "category", "feeling", "target"),
    "topic": ("topic", "topics", "scenario", "situation", "theme", "domain", "context"),
    "id": ("id", "text_id", "ids", "uid", "item_id", "stimulus_id"),
    "person": ("person", "perspective"),
    "language": ("language", "lang"),
}
_SEPARATORS = ",;\t|"
_SHOWN = 5  # of a list of faults


def set_of(
    data: Data, given: Mapping[str, Given], names: Names = None, name: str = "own", what: str = ""
) -> StimulusSet:
    """The set of texts in any shape.

    Args:
        data: see `library.stimuli_from`.
        given: what holds each of the columns in `GUESSES`: its name, or values, one per text; None to guess.
        names: names of labels that are numbers.
        name: of the set.
        what: names the data in errors; by default by its type.

    Raises:
        StimulusError: no texts or labels can be found, or one of them does not fit; with the row, and the remedy.
    """
    what = what or type(data).__name__
    _check_rows_agree(data, given, what)
    columns = columns_of(data, what)
    n = len(next(iter(columns.values())))
    found = {role: values for role in GUESSES if (values := _values(role, columns, given.get(role), n, what))}
    if "text" not in found:
        raise StimulusError(f"{what}: which column holds the texts? {_there(columns)}; give {_CALL}text='...')")
    if "emotion" not in found:
        raise StimulusError(
            f"{what}: {n} text{'s' * (n != 1)} without emotions ({_there(columns)}); give {_CALL}labels=[...]), one "
            "for each text, or of a table emotion='its column'"
        )
    found["emotion"] = _named(found["emotion"], names, what)
    words = {role: [_word(value, role == "text") for value in values] for role, values in found.items()}
    _check_whole(words, what)
    if "topic" not in words:  # a text of no topic is one of its own, as independent texts are
        words.setdefault("id", [f"{emotion}-{i + 1}" for i, emotion in enumerate(words["emotion"])])
        words["topic"] = words["id"]
    rows = [
        {r: v for r, v in zip(words, row, strict=True) if v is not None} for row in zip(*words.values(), strict=True)
    ]
    form = fitting({"items": rows}, StimulusForm, what)
    return StimulusSet(name, tuple(item_of(i, row, form.language) for i, row in enumerate(form.items)))


_CALL = "le.stimuli_from(data, "


def _check_rows_agree(data: Data, given: Mapping[str, Given], what: str) -> None:
    """Raises StimulusError where pandas numbers the rows of texts and of labels otherwise: in order, they would mix."""
    if isinstance(data, pd.Series | pd.DataFrame):
        for role, values in given.items():
            if isinstance(values, pd.Series) and len(values) == len(data) and not values.index.equals(data.index):
                raise StimulusError(
                    f"{what}: the {role}s have another index than the texts; give them in its order, "
                    "labels.loc[texts.index], or by position, labels.tolist()"
                )


# From any shape to columns.


def columns_of(data: Data, what: str = "data") -> Columns:
    """The columns of texts in any shape, all of one length.

    Raises:
        StimulusError: no shape that is known, or no texts.
    """
    features = getattr(data, "features", None)  # of Hugging Face datasets
    columns = _columns(data, what)
    sizes = {key: len(values) for key, values in columns.items()}
    if not sum(sizes.values()):
        raise StimulusError(f"{what}: no texts; give at least one for each of two emotions")
    if len(set(sizes.values())) > 1:
        raise StimulusError(f"{what}: columns of different lengths ({sizes}); give one value per text in each")
    return {key: _by_name(values, features, key) for key, values in columns.items()}


def _columns(data: Any, what: str) -> Columns:
    if hasattr(data, "to_dicts"):  # polars
        data = data.to_dicts()
    elif hasattr(data, "to_pandas"):  # Hugging Face datasets, pyarrow
        data = data.to_pandas()
    if isinstance(data, pd.DataFrame):
        if len(twice := data.columns[data.columns.duplicated()]):
            raise StimulusError(f"{what}: the column {twice[0]!r} stands twice; rename or drop one")
        return {str(key): data[key].tolist() for key in data.columns}
    if names := getattr(getattr(data, "dtype", None), "names", None):  # NumPy records
        return {key: data[key].tolist() for key in names}
    return _of_mapping(data, what) if isinstance(data, Mapping) else _of_rows(data, what)


def _by_name(values: list[Any], features: Any, key: str) -> list[Any]:
    """A column of labels that Hugging Face datasets keep as numbers (ClassLabel), perhaps several a text."""
    feature = features.get(key) if isinstance(features, Mapping) else None
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    if not names:
        return values
    known = dict(enumerate(names))  # -1 is a label that was withheld
    return [list(map(known.get, v)) if isinstance(v, list | tuple) else known.get(v) for v in map(plain, values)]


def _of_mapping(data: Mapping[Any, Any], what: str) -> Columns:
    """A table by columns; texts by emotion; rows by name; what pandas writes as JSON."""
    values = list(data.values())
    if any(hasattr(v, "column_names") for v in values):
        raise StimulusError(
            f"{what}: holds the splits {', '.join(map(str, data))}; give one: data[{next(iter(data))!r}]"
        )
    if {"columns", "data"} <= data.keys():  # pandas, orient="split"
        return _columns(pd.DataFrame(list(data["data"]), columns=list(data["columns"])), what)
    if "items" in data and _listed(data["items"]):
        return _of_rows(data["items"], what)
    guessed = [key for key in data if str(key).strip().lower() in GUESSES["text"]]
    if guessed and isinstance(data[guessed[0]], str):
        return _of_rows([data], what)  # one row
    if values and all(isinstance(v, Mapping) for v in values):
        return {str(k): list(v.values()) for k, v in data.items()} if guessed else _of_rows(values, what)
    if not all(_listed(v) for v in values):
        raise StimulusError(
            f"{what}: a dict with {', '.join(map(repr, islice(data, _SHOWN)))}; give columns, {{'text': [...], "
            "'emotion': [...]}, or texts by emotion, {'calm': [...], 'angry': [...]}"
        )
    if guessed:
        return {str(key): list(column) for key, column in data.items()}
    return {"text": [t for v in values for t in v], "emotion": [k for k, v in data.items() for _ in v]}


def _of_rows(data: Any, what: str) -> Columns:
    """Rows, one after the other: texts alone, dicts, `Stimulus` and other dataclasses, named tuples."""
    if not _listed(data):
        raise StimulusError(
            f"{what}: no set of texts; give a DataFrame, a list of dicts, texts with "
            "labels=[...], a Hugging Face dataset, or the path of a CSV, JSON, JSONL or TOML file"
        )
    rows = [_row(row) for row in data]
    if rows and all(isinstance(row, str) for row in rows):
        return {"text": rows}
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            parts = ", ".join(("texts", "labels", "topics")[: _size(row)])
            raise StimulusError(
                f"{what}, row {i + 1}: expected text or a dict with text and emotion, got {row!r:.60}; of rows without "
                f"names make lists: {parts} = zip(*rows), then le.stimuli_from({parts})"
            )
    keys = dict.fromkeys(str(key) for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in keys}


def _size(row: Any) -> int:
    """How many lists rows without names make: texts and labels at least, topics too."""
    return min(max(len(row), 2), 3) if isinstance(row, Sequence) and not isinstance(row, str | bytes) else 2


def _row(row: Any) -> Any:
    if isinstance(row, Stimulus) or (is_dataclass(row) and not isinstance(row, type)):
        return asdict(row)
    if hasattr(row, "_asdict"):
        return row._asdict()
    return row.to_dict() if isinstance(row, pd.Series) else row


def _listed(value: Any) -> bool:
    single = isinstance(value, str | bytes | Mapping) or hasattr(value, "read") or getattr(value, "ndim", 1) == 0
    return isinstance(value, Iterable) and not single


# From columns to words.


def _values(role: str, columns: Columns, given: Given, n: int, what: str) -> list[Any] | None:
    """The values of a column: those given, those of the column named, or of the one that is called like it."""
    if given is not None and not isinstance(given, str):
        values = list(plain(given) if _listed(plain(given)) else given)
        if len(values) != n:
            raise StimulusError(f"{what}: {n} texts, but {len(values)} {role}s; give one for each text")
        return values
    if given is not None:
        if given in columns:
            return columns[given]
        if role == "language":
            return [given] * n  # of all texts
        raise StimulusError(f"{what}: no column {given!r}; {_there(columns)}")
    called = {key.strip().lower(): key for key in columns}
    found = [called[name] for name in GUESSES[role] if name in called]
    if len(found) > 1 and found[0].strip().lower() != role:
        raise StimulusError(f"{what}: is the {role} in {' or '.join(map(repr, found))}? Give {role}={found[0]!r}")
    return columns[found[0]] if found else None


def _there(columns: Columns) -> str:
    return f"its columns are {', '.join(map(repr, columns))}"


def _word(value: Any, only_text: bool) -> Any:
    """A cell in Python's own words, a number as its name unless only text will do; None where it is missing."""
    value = plain(value)
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and not only_text else value


def _check_whole(words: Columns, what: str) -> None:
    """Raises StimulusError for cells that are empty, all of a column at once."""
    for role in words.keys() - {"person", "language"}:
        if empty := [i + 1 for i, word in enumerate(words[role]) if word is None or not str(word).strip()]:
            shown = ", ".join(map(str, empty[:_SHOWN])) + ", ..." * (len(empty) > _SHOWN)
            raise StimulusError(
                f"{what}: no {role} in {len(empty)} of {len(words[role])} rows ({shown}, counted from 1); fill them "
                "in, or leave these rows out (in pandas: dropna)"
            )


def _named(labels: list[Any], names: Names, what: str) -> list[Any]:
    """Emotions by name: numbers looked up, a list of one label taken for the label."""
    labels = [plain(label) for label in labels]
    if several := [i for i, label in enumerate(labels) if isinstance(label, list | tuple) and len(label) != 1]:
        raise StimulusError(
            f"{what}, row {several[0] + 1}: {len(labels[several[0]])} emotions (as {len(several)} of {len(labels)} "
            "rows have none or several); a text has one: keep the rows with one"
        )
    labels = [label[0] if isinstance(label, list | tuple) else label for label in labels]
    numbers = sorted({number for label in labels if (number := _number(label)) is not None})
    if not numbers:
        return labels
    if names is None:
        raise StimulusError(
            f"{what}: the labels are numbers ({', '.join(map(str, numbers[:_SHOWN]))}); give their names: "
            f"{_CALL}label_names=['sad', 'happy', ...])"
        )
    pairs = list(names.items() if isinstance(names, Mapping) else enumerate(names))
    if all(isinstance(k, str) and _number(k) is None and isinstance(v, int) for k, v in pairs):
        pairs = [(v, k) for k, v in pairs]  # label2id
    known = {_number(k): v for k, v in pairs}
    if missing := [n for n in numbers if n not in known]:
        raise StimulusError(f"{what}: label_names has no name for {missing[0]}; it has those of {list(known)}")
    return [known.get(_number(label), label) for label in labels]


def _number(label: Any) -> int | None:
    """A label that is a whole number, in whatever form."""
    if isinstance(label, str):
        return int(label) if re.fullmatch(r"\s*-?\d{1,9}\s*", label) else None
    return int(label) if isinstance(label, int) or (isinstance(label, float) and label.is_integer()) else None


# Files.


def read_texts(path: str | Path) -> StimulusFile:
    """Read a file of texts: CSV or TSV with a header, JSON lines, a JSON list of rows, or a stimulus file.

    Raises:
        StimulusError: as `sets.read_stimulus_file` and `set_of`; with the file, and the line or row.
    """
    rows = rows_of_file(path)
    if rows is None:
        return read_stimulus_file(path)
    return StimulusFile(set_of(rows, {}, name=Path(path).stem, what=str(path)), {})


def is_table_file(name: object) -> bool:
    """Whether a name is that of a table's file, there or not."""
    return Path(str(name)).suffix.lower() in _READERS | _BY_PANDAS


def rows_of_file(path: str | Path) -> Data | None:
    """What stands in a file that is a table; None for any other.

    Raises:
        StimulusError: it cannot be read, or is no table.
    """
    path = as_path(path, StimulusError)
    if (by := _BY_PANDAS.get(suffix := path.suffix.lower())) and path.is_file():
        raise StimulusError(
            f"{path}: a {suffix} file is not read here; open it yourself: le.stimuli_from({by.format(repr(str(path)))})"
        )
    read = _READERS.get(suffix)
    return read(str(path), read_text(path, StimulusError, "give a file in UTF-8")) if read else None


def _csv_rows(path: str, text: str) -> list[dict[str, str]]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=head.count), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise StimulusError(
                    f"{path}, line {reader.line_num}: not as many fields as in the first line "
                    f"({len(reader.fieldnames or ())}); a text with commas or line breaks stands in double quotes"
                )
            rows.append(row)
    except csv.Error as error:
        raise StimulusError(f"{path}, line {reader.line_num}: no CSV ({error}); save it anew, texts quoted") from None
    if len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
        raise StimulusError(f"{path}: a column stands twice in the first line, {head[:80]!r}; rename one")
    return rows


def _json_lines(path: str, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(strict_json(line))
            except ValueError as error:
                raise StimulusError(f"{path}, line {number}: not valid JSON ({error!s:.80}); one row a line") from None
    return rows


def _json_table(path: str, text: str) -> Any:
    """Rows, or columns, as pandas and others write them; None of what is, or was to be, a stimulus file."""
    try:
        data = strict_json(text)
    except ValueError:
        return _json_lines(path, text) if _LINES.match(text) else None  # whose reader says it better
    if isinstance(data, list):
        return data or None
    if not isinstance(data, dict) or "items" in data:
        return None
    if isinstance(data.get("data"), list) and "columns" not in data:  # rows under a heading
        return data["data"] or None
    if data and all(isinstance(v, list) and v and all(isinstance(t, str) for t in v) for v in data.values()):
        return data  # texts by emotion, or columns
    keys = {*data, *(key for value in data.values() if isinstance(value, dict) for key in value)}
    return data if "columns" in keys or any(key.strip().lower() in GUESSES["text"] for key in keys) else None


_LINES = re.compile(r"\s*\{[^\n]*\}\s*\n\s*\{[^\n]*\}\s*(\n|$)")  # two objects, a line each
_BY_PANDAS = {
    ".parquet": "pd.read_parquet({})",
    ".feather": "pd.read_feather({})",
    ".xlsx": "pd.read_excel({})",
    ".xls": "pd.read_excel({})",
    ".ods": "pd.read_excel({})",
    ".gz": "pd.read_csv({})",
    ".zip": "pd.read_csv({})",
    ".arrow": "datasets.Dataset.from_file({})",
    ".txt": "open({}).read().splitlines(), labels",
}
_READERS: dict[str, Callable[[str, str], Any]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_table,
}
