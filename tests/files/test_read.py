"""The one door for files from outside: whatever lies at a path is read, or refused by name, within a second."""

from __future__ import annotations

import ast
import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import lens_emotion
from lens_emotion.errors import ArtifactError, LensEmotionError, ModelUnavailableError, StimulusError
from lens_emotion.files import read, user
from lens_emotion.files.read import check_regular, kind_of, read_bytes, read_json, read_start, read_text, strict_json
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.checkpoint import check_folder, read_config
from lens_emotion.models.loading import resolve, tiny_folder
from lens_emotion.models.shapes import shape_of
from lens_emotion.models.skeleton import shapes_of
from lens_emotion.run.config import read_study_file
from lens_emotion.steering.judge_files import read_judge_file
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import read_prompts, read_scenarios
from lens_emotion.stimuli.sets import read_stimulus_file, read_written


@pytest.fixture(autouse=True)
def within_a_second():
    started = time.process_time()  # waiting is ended below, since nobody writes into the FIFO
    yield
    assert time.process_time() - started < 3


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Makes what is no file to read at a path."""
    monkeypatch.chdir(tmp_path)

    def make(kind: str, name: str) -> str:
        path = tmp_path / name
        if kind == "folder":
            path.mkdir()
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(name)  # a short path, as sockets have
        elif kind == "endless link":
            path.symlink_to(path)
        elif kind == "dangling link":
            path.symlink_to(tmp_path / "nothing")
        elif kind == "link to a FIFO":
            os.mkfifo(tmp_path / "fifo")
            path.symlink_to(tmp_path / "fifo")
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "too large":
            with path.open("wb") as file:
                file.truncate(2**40)
        return name

    return make


ODD = ("folder", "FIFO", "socket", "endless link", "dangling link", "link to a FIFO", "device", "too large", "missing")
READERS = {
    "read_bytes": (read_bytes, "x"),
    "read_json": (read_json, "x"),
    "config": (lambda path: read_config(Path(path)), "config.json"),
    "shapes": (lambda path: shapes_of([Path(path)]), "model.safetensors"),
    "gguf": (resolve, "x.gguf"),
    "shape": (shape_of, "./x.gguf"),
    "stimuli": (read_stimulus_file, "x.toml"),
    "load_stimuli": (load_stimuli, "x.JSON"),
    "prompts": (read_prompts, "x.json"),
    "scenarios": (read_scenarios, "x.toml"),
    "judge": (read_judge_file, "judge.toml"),
    "study": (read_study_file, "study.toml"),
    "written": (read_written, "stories.json"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once_by_its_name(odd, reader, kind):
    door, name = READERS[reader]
    with pytest.raises(LensEmotionError, match=name.removeprefix("./")):
        door(odd(kind, name))


NAMES = ["nul\0", "half\udc80", "two\nlines", "a" * 300, "~nobody/x", "~", "..", "."]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_no_file_has_is_refused(odd, reader, name):
    with pytest.raises(LensEmotionError):
        READERS[reader][0](name + ("" if name == "~" else Path(READERS[reader][1]).suffix))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("key", ["out", "stimuli", "prompts", "scenarios", "judge", "name"])
def test_a_name_in_a_study_file_is_taken_or_refused(tmp_path, key, name):
    row = {"name": "tiny-llama"} | ({"name": name} if key == "name" else {})
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"models": [row]} | ({key: name} if key != "name" else {})))
    try:
        out = read_study_file(path)[1]
    except StimulusError as error:
        assert any(word in str(error) for word in (str(tmp_path), repr(name)[1:-1], os.path.expanduser(name)))
    else:
        assert out is None or out.parent == tmp_path
        assert key != "out" or name in ("half\udc80", "two\nlines", "~nobody/x") or len(name) == 300


@pytest.mark.parametrize("kind", [k for k in ODD if k not in ("missing",)])
@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
        "tokenizer.model",
        "x.index.json",
        "x.safetensors",
    ],
)
def test_what_transformers_would_open_in_a_folder_is_looked_at_before(odd, tmp_path, name, kind):
    if kind == "too large" and name == "x.safetensors":
        pytest.skip("weights of a TiB are refused by what they hold")
    source = tiny_folder(find_spec("tiny-llama"))
    for file in source.iterdir():
        if file.is_file() and file.name != name:
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "additional_chat_templates").mkdir()
    with pytest.raises(ModelUnavailableError, match=Path(name).name):
        odd(kind, name)
        check_folder(tmp_path, "own")


def test_kinds_are_named(odd, tmp_path):
    (tmp_path / "f").write_text("x")
    assert kind_of("f") == "a file" and kind_of(tmp_path) == "a folder"
    assert kind_of(odd("FIFO", "p")) == "a FIFO" and kind_of(odd("device", "z")) == "a device"
    assert kind_of(odd("socket", "s")) == "a socket"
    assert [kind_of(name) for name in (odd("endless link", "l"), "no\0", "a" * 300, "\ud800", "none")] == [""] * 5


def test_what_is_there_is_read_as_it_is(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf\xc3\xa4\r\nb\n")
    assert read_text(path) == "ä\nb\n" and read_start(path, 4) == b"\xef\xbb\xbf\xc3"
    assert check_regular(path) == path
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(b"")
    assert read_bytes(path) == b""
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(ArtifactError, match=r"line 2: it is no text in UTF-8; copy it anew"):
        read_text(path)


def test_a_file_that_grows_is_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "_PIECE", 1000)
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5000)
    monkeypatch.setattr(read.os, "fstat", lambda _: SimpleNamespace(st_size=500))  # what it was when it was opened
    assert len(read_bytes(path, most=5000)) == 5000
    with pytest.raises(ArtifactError, match="has more than"):
        read_bytes(path, most=4999)


@pytest.mark.parametrize("name", ["/proc/self/mem", "/proc/self/stat", "/dev/null", "/proc/self/fd/0"])
def test_files_of_the_kernel_are_read_or_refused(name):
    if not Path(name).exists():
        pytest.skip("not on this system")
    try:
        assert len(read_bytes(name, most=2**20)) < 2**20
    except ArtifactError as error:
        assert name in str(error)


JSON = {
    '{"a": 1,\n "b": 2,\n "a": 3}': ("a", 3, 'the key "a" stands twice'),
    '{"a": {"x": 1},\n "b": {"x": 1, "y": "x",\n "x": {}}}': ("b", 3, 'the key "x" stands twice'),
    '[{"a": 1}, {"a": 1},\n {"\\u0061": 1, "a": 2}]': ("c", 2, 'the key "a" stands twice'),
    "[1,\n NaN]": ("d", 2, "NaN is no number"),
    '["NaN",\n\n -Infinity]': ("e", 3, "-Infinity is no number"),
    "[1,\n 1e999]": ("f", 2, "1e999 is out of range"),
    "[0,\n" + "9" * 400 + "]": ("g", 2, "out of range"),
    "[0,\n" + "9" * 99999 + "]": ("h", 2, "out of range"),
    "[0,\n0." + "9" * 99999 + "]": ("i", 2, "out of range"),
    '["\\ud83d\\ude00",\n "\\\\ud800", \n"x\\ud800"]': ("j", 3, "half of a surrogate pair"),
    '{"ok": 1,\n"\\udc00": 1}': ("k", 2, "half of a surrogate pair"),
    "[" * 100_000 + "]" * 100_000: ("l", 1, "too deep"),
    '{"a":' * 100_000: ("m", 1, "too deep"),
    "{'a': 1}": ("n", 1, "Expecting property name"),
    "": ("o", 1, "Expecting value"),
    "[1] [2]": ("p", 1, "Extra data"),
}


@pytest.mark.parametrize(("text", "expected"), JSON.items(), ids=[v[0] for v in JSON.values()])
def test_json_that_has_two_meanings_or_none_is_refused_with_its_line(tmp_path, text, expected):
    _, line, words = expected
    for given in (text, "\ufeff" + text, text.encode()):
        with pytest.raises(json.JSONDecodeError, match=words) as found:
            strict_json(given)
        assert found.value.lineno == line
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StimulusError, match=rf"x.json, line {line}: not valid JSON \(.*{words}"):
        read_stimulus_file(path)
    with pytest.raises(ModelUnavailableError, match="x.json: .*" + words):
        read_config(path)


def test_strict_json_is_json_where_it_has_one_meaning():
    said = {"a": [1, -2.5e-3, True, None, "\U0001f600 \\ud800"], "b": {"a": 10**18, "NaN": "1e999"}, "": {}}
    for text in (json.dumps(said), json.dumps(said, ensure_ascii=False)):
        assert strict_json(text) == strict_json(text.encode()) == json.loads(text) == said


def test_a_key_that_stands_twice_among_many_is_found_at_once():
    many = ",\n".join(f'"{i}": {i}' for i in range(20_000))
    with pytest.raises(json.JSONDecodeError, match="line 20001"):
        strict_json(f'{{{many},\n"19999": 0}}')


DOTTED = ".".join("a" * 100_000)
SLOW_TOML = {
    "dotted": (f"x = 1\n{DOTTED} = 1", "line 2: .*more than 64 parts"),
    "dotted header": (f"x = 1\n\n[{DOTTED}]", "line 3: .*more than 64 parts"),
    "dotted inline": (f"x = {{ {DOTTED} = 1 }}", "line 1: .*more than 64 parts"),
    "dotted quotes": ('"a" . ' * 1000 + "b = 1", "line 1: .*more than 64 parts"),
    "nested": ("a = " + "[" * 100_000, "too deep"),
    "digits": ("\na = " + "9" * 5000, "line 2: .*1,000 digits"),
    "hex": ("a = [1,\n 0x" + "f" * 5000 + "]", "1,000 digits"),
    "400 digits": ("name = " + "9" * 400, "line 1, name: expected text, got a number of more"),
    "a long word": ("name = 1 # " + "x" * 4_000_000, "line 1, name: expected text"),
    "many lines": ("name = 1\n" + "# x\n" * 400_000, "x.toml(, line 1)?, name: expected text"),
    "open to the end": ("items = [\n" + "[[[{a = 1,b=\n1}]]],\n" * 3000 + "]", "x.toml"),
}


@pytest.mark.parametrize("kind", SLOW_TOML)
def test_toml_that_would_take_long_is_refused_in_time(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(user, "_LOOKING", 0.3)
    text, words = SLOW_TOML[kind]
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(StimulusError, match=words):
        read_stimulus_file(path)


def test_prose_is_no_long_key(tmp_path):
    dots = "... ".join(["so", *"abcdefgh" * 20]) + ' "a"."b" ' * 30 + "1.2.3.4.5.6.7.8.9 " * 9 + "_" * 2000
    path = tmp_path / "x.toml"
    path.write_text(f"items = [{{emotion = 'a', topic = 'b', text = '''{dots}'''}}]")
    assert read_stimulus_file(path).stimuli.items[0].text == dots


# What opens files elsewhere, and why: everything else goes through the door.
OWN = {
    "files/read.py": "the door",
    "files/user.py": "tomllib, of text that came through the door",
    "files/artifacts.py": "safetensors, behind check_regular; a header that it read",
    "files/journal.py": "its own file, appended record by record",
    "files/checksums.py": "its own list, and files it hashes piece by piece",
    "run/lock.py": "its own lock",
    "models/rendering.py": "lines of a process of its own",
    "study/seal.py": "the package's own code, hashed; settings as JSON would give them back",
    "study/beside.py": "what a process of its own was given",
    "audits/reading.py": "arrays without pickles, of bytes that came through the door",
    "audits/table.py": "tables of others, NaN and all, of text that came through the door",
    "play/session.py": "the file that it has just written, to be handed out",
    "stimuli/world.py": "package resources",
    "stimuli/emotions.py": "package resources",
    "stimuli/prompts.py": "package resources",
    "report/page.py": "package resources, and JSON that plotly made",
    "run/config.py": "package resources",
    "vectors/hub.py": "a file that it just wrote, to be pushed",
    "vectors/interchange.py": "a file that it just wrote",
    "report/gallery.py": "a picture's page that it just wrote",
    "run/look.py": "pandas, of bytes that came through the door",
    "memory.py": "what the system says of its memory",
    "run/store.py": "descriptors of folders, to be synced",
    "study/workers.py": "settings that the study itself sent",
}  # fmt: skip
OPENING = {
    "json": {"load", "loads"}, "tomllib": {"load", "loads"}, "pd": {"read_csv", "read_json"}, "np": {"load", "loadtxt"},
    "torch": {"load"}, "pickle": {"load", "loads"},
}  # fmt: skip


OPENED = ("Image", "webbrowser", "Store", "Journal")  # which are no files, or open theirs in a file of the list


def opened_in(source: str) -> set[str]:
    """Calls in a source that open or parse a file without the door."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in ("open", "load_file"):
            found.add(node.func.id)
        elif isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, getattr(node.func.value, "id", "")
            plain = name in ("read_text", "read_bytes") or (name == "open" and of not in OPENED)
            if name in OPENING.get(of, ()) or plain:
                found.add(f"{of}.{name}")
    return found


def test_files_are_opened_at_the_door_alone():
    root = Path(lens_emotion.__file__).parent
    opening = {p.relative_to(root).as_posix(): opened_in(p.read_text(encoding="utf-8")) for p in root.rglob("*.py")}
    assert {name: calls for name, calls in opening.items() if calls and name not in OWN} == {}


def test_that_test_sees_a_door_of_ones_own():
    assert opened_in("json.loads(path.read_text())") == {"json.loads", "path.read_text"}
    assert opened_in("with Path(p).open() as f: pass") == {".open"} and opened_in("open(p)") == {"open"}
    assert opened_in("read_text(p), strict_json(x), Image.open(p)") == set()
