"""Texts in the shapes in which people hold them become one set, or one line that says what is missing."""

from __future__ import annotations

import json
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lens_emotion as le
from lens_emotion.errors import StimulusError

TEXTS = ["I smiled all day.", "I cried, all night.", "I laughed out loud.", "Tears came again."]
LABELS, TOPICS = ["happy", "sad"] * 2, ["a", "a", "b", "b"]
TABLE = pd.DataFrame({"text": TEXTS, "emotion": LABELS, "topic": TOPICS})
ROWS = TABLE.to_dict("records")
Row = namedtuple("Row", "text emotion topic")


class Dataset:
    """What is known of a Hugging Face dataset: labels as numbers, whose names lie in its features."""

    def __init__(self, several: bool = False) -> None:
        names = SimpleNamespace(names=["sad", "happy"])
        self.column_names, self.several = ["text", "label", "topic"], several
        self.features = {"label": SimpleNamespace(feature=names) if several else names, "text": SimpleNamespace()}

    def to_pandas(self) -> pd.DataFrame:
        label = [np.array([n]) if self.several else n for n in (1, 0, 1, 0)]
        return pd.DataFrame({"text": TEXTS, "label": label, "topic": TOPICS})

    def __iter__(self):
        raise AssertionError("read row by row")


class Polars:
    def to_dicts(self) -> list[dict[str, str]]:
        return ROWS

    def __iter__(self):
        raise AssertionError("read by column")


SHAPES = {
    "DataFrame": lambda: (TABLE,),
    "DataFrame, categories": lambda: (TABLE.astype("category"),),
    "DataFrame, strings": lambda: (TABLE.astype("string"),),
    "DataFrame, other names": lambda: (TABLE.set_axis(["Sentence ", "LABEL", "Scenario"], axis=1),),
    "records": lambda: (ROWS,),
    "dict of columns": lambda: (TABLE.to_dict("list"),),
    "dict of dicts by column": lambda: (TABLE.to_dict(),),
    "dict of rows": lambda: (TABLE.to_dict("index"),),
    "numpy records": lambda: (TABLE.to_records(),),
    "tuples with names": lambda: (TABLE.itertuples(),),
    "own tuples with names": lambda: ([Row(*row) for row in zip(TEXTS, LABELS, TOPICS, strict=True)],),
    "series of rows": lambda: ([row for _, row in TABLE.iterrows()],),
    "generator": lambda: ((row for row in ROWS),),
    "texts and labels": lambda: (TEXTS, LABELS, TOPICS),
    "series": lambda: (TABLE["text"], TABLE["emotion"], TABLE["topic"]),
    "arrays": lambda: (np.array(TEXTS), np.array(LABELS), np.array(TOPICS)),
    "table and labels": lambda: (TABLE[["text"]], LABELS, TOPICS),
    "names of columns": lambda: (TABLE, "emotion", "topic"),
    "dataset": lambda: (Dataset(),),
    "dataset, lists of labels": lambda: (Dataset(several=True),),
    "polars": lambda: (Polars(),),
    "stimuli": lambda: (list(le.stimuli_from(TABLE)),),
    "a set": lambda: (le.stimuli_from(TABLE),),
}


def held(stimuli: le.StimulusSet) -> list[tuple[str, str, str]]:
    return [(s.text, s.emotion, s.topic) for s in stimuli]


EXPECTED = list(zip(TEXTS, LABELS, TOPICS, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_texts(shape):
    assert held(le.stimuli_from(*SHAPES[shape]())) == EXPECTED


def written(path):
    name, kind = path.name.split(".")
    if kind in ("csv", "tsv"):
        separator = ";" if name == "semicolons" else "|" if name == "bars" else "\t" if kind == "tsv" else ","
        TABLE.to_csv(path, sep=separator, index=name == "index")
    elif kind == "jsonl" or name == "lines":
        TABLE.to_json(path, orient="records", lines=True)
    elif name == "headed":
        path.write_text('{"version": "1", "data": ' + TABLE.to_json(orient="records") + "}")
    elif name == "saved":
        le.stimuli_from(TABLE).save(path)
    else:
        TABLE.to_json(path, orient=name)
    return path


FILES = (
    "plain.csv", "semicolons.csv", "index.csv", "plain.tsv", "plain.jsonl", "records.json", "columns.json",
    "index.json", "split.json", "table.json", "headed.json", "saved.json", "bars.csv", "lines.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_texts(tmp_path, name):
    path = written(tmp_path / name)
    assert held(le.stimuli_from(path)) == held(le.load_stimuli(str(path))) == EXPECTED


def test_texts_by_emotion_and_texts_without_topics_are_topics_of_their_own():
    found = le.stimuli_from({"calm": TEXTS[:2], "angry": TEXTS[2:]})
    assert found.emotions == ("calm", "angry") and len(found.topics) == 4
    assert "hold out single texts" in found.summary() and "Give topic=" in found.summary()


def test_a_json_file_of_texts_by_emotion(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"calm": TEXTS[:2], "angry": TEXTS[2:]}))
    assert le.load_stimuli(tmp_path / "m.json").texts == TEXTS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.parquet", r"le\.stimuli_from\(pd\.read_parquet\('.*m\.parquet'\)\)"),
        ("m.xlsx", "pd.read_excel"),
        ("m.csv.gz", "pd.read_csv"),
        ("m.txt", r"read\(\)\.splitlines\(\), labels"),
    ],
)
def test_files_that_other_packages_read_say_how(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"PAR1\xff\x00")
    for reads in (le.stimuli_from, le.load_stimuli):
        with pytest.raises(StimulusError, match=words):
            reads(tmp_path / name)


def test_a_text_of_a_csv_file_may_be_called_na(tmp_path):
    (tmp_path / "m.csv").write_text('\ufefftext,label\n"NA, None\nand null",sad\nx,happy\n', encoding="utf-8")
    assert le.stimuli_from(tmp_path / "m.csv").texts == ["NA, None\nand null", "x"]


def test_columns_language_ids_and_names_of_labels_can_be_given():
    numbered = TABLE.assign(emotion=[1, 0, 1, 0], key=[7, 8, 9, 10]).rename(columns={"text": "satz"})
    found = le.stimuli_from(
        numbered, text="satz", id="key", language="de", label_names={0: "sad", 1: "happy"}, name="n"
    )
    assert held(found) == EXPECTED and found.name == "n"
    assert [s.text_id for s in found] == ["7", "8", "9", "10"] and {s.language for s in found} == {"de"}
    for labels in ([1, 0, 1, 0], np.array([1.0, 0, 1, 0]), ["1", "0", "1", "0"], [True, False] * 2):
        assert le.stimuli_from(TEXTS, labels, label_names=["sad", "happy"]).emotions == ("happy", "sad")


REFUSED = {
    "no texts": (lambda: ([],), {}, "no texts"),
    "an empty table": (lambda: (pd.DataFrame(),), {}, "no texts"),
    "nothing": (lambda: (None,), {}, "give a DataFrame"),
    "a number": (lambda: (3,), {}, "give a DataFrame"),
    "an open file": (lambda: (open("pyproject.toml"),), {}, "the path of a CSV"),  # noqa: SIM115
    "texts alone": (lambda: (TEXTS,), {}, r"4 texts without emotions.*labels=\[\.\.\.\]"),
    "pairs": (lambda: (list(zip(TEXTS, LABELS, strict=True)),), {}, r"row 1.*: texts, labels = zip\(\*rows\)"),
    "rows of three": (lambda: ([(TEXTS[0], "sad", "t")],), {}, r"texts, labels, topics = zip\(\*rows\)"),
    "labels of another index": (
        lambda: (pd.Series(TEXTS, index=[3, 2, 1, 0]), pd.Series(LABELS)), {}, r"another index.*labels\.tolist\(\)",
    ),
    "too few labels": (lambda: (TEXTS, LABELS[:2]), {}, "4 texts, but 2 emotions"),
    "labels that are numbers": (lambda: (TEXTS, [0, 1, 0, 1]), {}, r"label_names=\["),
    "a label without name": (lambda: (TEXTS, [0, 1, 0, 2]), {"label_names": ["a", "b"]}, "no name for 2"),
    "several labels": (lambda: (TEXTS, [["a"], ["b"], ["a", "b"], []]), {}, r"row 3: 2 emotions \(as 2 of 4"),
    "an unknown column": (lambda: (TABLE,), {"emotion": "emo"}, "no column 'emo'; its columns are 'text'"),
    "no column of texts": (lambda: (TABLE.rename(columns={"text": "z"}),), {}, r"columns are 'z'.*text='\.\.\.'"),
    "no column of labels": (lambda: (TABLE.drop(columns="emotion"),), {}, "emotion='its column'"),
    "two columns of labels": (
        lambda: (TABLE.rename(columns={"emotion": "label"}).assign(label_text="x"),), {},
        "is the emotion in 'label' or 'label_text'",
    ),
    "both": (lambda: (TABLE, LABELS), {"emotion": "emotion"}, "say the same"),
    "a missing text": (lambda: (TABLE.assign(text=[None, "a", " ", "b"]),), {}, r"no text in 2 of 4 rows \(1, 3"),
    "a missing topic": (lambda: (TABLE.assign(topic=[np.nan, "a", "b", "c"]),), {}, "no topic in 1 of 4 rows"),
    "a text that is a number": (lambda: (TABLE.assign(text=[1, 2, 3, 4]),), {}, "item 1, text: expected text, got 1"),
    "a label of two lines": (lambda: (TEXTS, ["a\nb", "c"] * 2), {}, "a name is one line"),
    "an id twice": (lambda: (TABLE.assign(id=[1, 1, 2, 3]),), {}, "the id '1' occurs twice"),
    "a column twice": (lambda: (pd.concat([TABLE, TABLE], axis=1),), {}, "'text' stands twice"),
    "columns of two lengths": (lambda: ({"text": TEXTS, "emotion": LABELS[:3]},), {}, "different lengths"),
    "splits": (lambda: ({"train": Dataset()},), {}, r"splits train.*data\['train'\]"),
    "text by text": (lambda: ({"happy": "a", "sad": "b"},), {}, "texts by emotion"),
    "no such set": (lambda: ("pasages",), {}, r"did you mean 'passages'"),
    "no such file": (lambda: ("none.csv",), {}, "no file none.csv"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_with_the_remedy(untyped, what):
    data, options, words = REFUSED[what]
    with pytest.raises(StimulusError, match=words) as caught:
        le.stimuli_from(*data(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "text,emotion\nwell, then,sad\n", "line 2: not as many fields as in the first line"),
        ("m.csv", 'text,emotion\n"open,sad\n', "line 1: no CSV"),
        ("m.csv", "text,text,emotion\na,b,sad\n", "stands twice"),
        ("m.csv", "", "no texts"),
        ("m.csv", "I was glad.\n", "no texts"),
        ("m.jsonl", '{"text": "a", "emotion": "b"}\n{"text": \n', "line 2: not valid JSON"),
        ("m.json", '{"text": ["a"]}', "1 text without emotions"),
        ("m.json", '{"item": [{"text": "a"}]}', "did you mean items"),
    ],
)
def test_a_faulty_file_is_named_with_the_line(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(StimulusError, match=words) as caught:
        le.load_stimuli(tmp_path / name)
    assert name in str(caught.value)


def test_the_command_line_lints_a_table(tmp_path, called):
    done = called("stimuli", "lint", written(tmp_path / "plain.csv"), "--min-words", "3")
    assert done.code == 0 and "plain: 4 texts, 2 emotions, 2 topics: clean" in done.out
    assert "No neutral texts" in done.out.replace("\n", " ")
