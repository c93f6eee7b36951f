"""What editors and type checkers see: every annotation resolves, and the stub tells a wrong name from a right one."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import typing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import lens_emotion as le

ROOT = Path(__file__).parent.parent
ARRAYS = {"Float", "Int", "Bool", "Shaped", "Int64", "Float32", "Float64", "Integer", "Num"}
MODULES = [m.name for m in pkgutil.walk_packages(le.__path__, "lens_emotion.")]
USES = """\
import numpy as np
import pandas as pd

import lens_emotion as le


def main() -> None:
    model = le.load_model("tiny-llama", backend="bridge")
    df = pd.DataFrame({"text": ["a", "b"], "emotion": ["calm", "sad"], "topic": ["x", "y"]})
    texts = le.stimuli_from(df)
    n: int = len(texts)
    first: le.Stimulus = texts[0]
    for s in texts:
        print(s.text.upper(), s.emotion)
    acts = le.extract_comprehension(model, df)
    acts2: le.PooledActivations = le.extract_comprehension(model, [{"text": "a", "emotion": "sad"}])
    vectors = le.emotion_vectors(acts)
    sweep = le.layer_sweep(acts, n_permutations=20)
    depth: float = sweep.best_depth
    table: pd.DataFrame = sweep.table
    own = le.vector(np.ones(64), model, layer=2, name="ones")
    push = le.steer(model, own, dose=2)
    push2 = le.steer(model, "0.5*calm - 0.3*angry", {2: 2.0, 4: 1}, vectors=vectors)
    out = le.generate(model, ["a", "b"], steering=push, sampling=le.Sampling(0.8, top_k=50, seed=0))
    for text in out:
        print(text)
    ids: list[list[int]] = [list(i) for i in out.ids]
    with le.steer(model, vectors["calm"], dose=le.Dose(0.4, "relative"), layers="1-2") as s2:
        print(s2)
    mix = le.mixture(vectors, "0.5*calm")
    both = 0.5 * vectors["calm"] - 0.3 * vectors["angry"]
    le.plots.similarity(le.similarity(vectors)).show()
    grid = le.steering_grid(model, vectors, ["a"], ["calm"], layer_sets=([2],), doses=(2, 4))
    print(grid.table, mix.name, both.name, n, first, acts2, depth, table, push2, ids)
    print(le.methods_text("runs/study"), le.lint(df).table, le.decoding(acts).summary())
    config = le.StudyConfig(models=("tiny-llama",), doses=(1.0, 3.0))
    print(config.steps)
    push.start().stop()
    le.wrap(model)


def mistakes(model: object) -> None:
    le.no_such  # wrong
    le.load_model(nme="tiny-llama")  # wrong
    le.load_model(3)  # wrong
    vectors = le.emotion_vectors("acts")  # wrong
    le.steer(model, vectors["calm"], dose="three", layer=2)  # wrong
    le.generate(model, 3)  # wrong
    le.Sampling(temperature="hot")  # wrong
    le.StudyConfig(models="tiny-llama", dose=3)  # wrong
    le.layer_sweep(vectors, n_permutation=3)  # wrong
    vectors[3]  # wrong
    le.decoding(vectors).tabel  # wrong
    x: int = le.decoding(vectors).summary()  # wrong
    le.vector(vectors)  # wrong
"""
WRONG = {i for i, line in enumerate(USES.splitlines(), 1) if line.endswith("# wrong")}


def names_of_checkers(module: ModuleType) -> dict[str, object]:
    """What the module imports for type checkers alone."""
    names: dict[str, object] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)
    return names


def annotated(module: ModuleType) -> typing.Iterator[tuple[str, object]]:
    """Functions, classes and methods that the module defines."""
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(thing):
            yield name, type("Own", (), {"__annotations__": vars(thing).get("__annotations__", {})})  # not of its bases
            for attribute, member in vars(thing).items():
                inner = getattr(member, "fget", None) or getattr(member, "func", None) or member
                inner = getattr(inner, "__func__", inner)
                inner = inspect.unwrap(inner) if inspect.isfunction(inner) else None
                if inner is not None and inner.__code__.co_filename == module.__file__:  # not what a decorator made
                    yield f"{name}.{attribute}", inner
        elif inspect.isfunction(thing):
            yield name, inspect.unwrap(thing)


def parts(hint: object) -> typing.Iterator[object]:
    yield hint
    for inner in typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ():
        if isinstance(inner, list):
            yield from (p for one in inner for p in parts(one))
        else:
            yield from parts(inner)


@pytest.mark.parametrize("name", MODULES)
def test_every_annotation_resolves(name: str) -> None:
    module = importlib.import_module(name)
    names = vars(module) | names_of_checkers(module)
    for where, thing in annotated(module):
        try:
            hints = typing.get_type_hints(thing, globalns=names, include_extras=True)
        except NameError as error:
            pytest.fail(f"{name}.{where}: {error}")
        for of, hint in hints.items():
            assert not any(isinstance(p, str) for p in parts(hint)), f"{name}.{where}: {of} {hint}"


def shapes(tree: ast.AST) -> typing.Iterator[ast.expr]:
    """The second part of every Float[array, shape] and its kin."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in ARRAYS:
            assert isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2, ast.unparse(node)
            yield node.slice.elts[1]


def test_every_shape_is_words_and_no_array_is_annotated_by_a_string() -> None:
    seen = 0
    for file in sorted((ROOT / "lens_emotion").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for shape in shapes(tree):
            seen += 1
            assert isinstance(shape, ast.Constant) and isinstance(shape.value, str), (
                f"{file.name}:{shape.lineno} {ast.unparse(shape)} is no string: it checks nothing"
            )
        for node in ast.walk(tree):
            given = getattr(node, "annotation", None) or getattr(node, "returns", None)
            assert not (isinstance(given, ast.Constant) and isinstance(given.value, str)), (
                f"{file.name}:{node.lineno} {given.value!r} is a string"
            )
    assert seen > 300


def test_the_stub_says_what_the_package_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_stub.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_stale_stub_is_noticed(tmp_path: Path) -> None:
    for part in (
        "scripts/make_stub.py",
        "lens_emotion/__init__.py",
        "lens_emotion/habits.py",
        "lens_emotion/errors.py",
        "lens_emotion/version.py",
    ):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text((ROOT / part).read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, tmp_path / "scripts" / "make_stub.py"]
    stub = tmp_path / "lens_emotion" / "__init__.pyi"
    assert subprocess.run([*command, "--check"], capture_output=True).returncode == 1
    assert subprocess.run(command).returncode == 0
    assert stub.read_text() == (ROOT / "lens_emotion" / "__init__.pyi").read_text()
    stub.write_text(stub.read_text() + "no_such: int\n")
    assert subprocess.run([*command, "--check"], capture_output=True).returncode == 1


def test_the_package_offers_public_names_only() -> None:
    assert dir(le) == sorted(le.__all__)
    assert all(n == "__version__" or not n.startswith("_") for n in dir(le))
    assert not {"Any", "import_module", "annotations", "steering", "models"} & set(dir(le))


def test_rooms_load_their_files_on_first_use() -> None:
    code = (
        "import lens_emotion as le, sys\n"
        "assert 'lens_emotion.steering' not in sys.modules and 'torch' not in sys.modules\n"
        "assert le.steering.measures.distinct_n and le.files.checksums and le.errors.LayerError\n"
        "assert le.steer and le.steering.regimes and not hasattr(le.steering, 'no_such')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_mypy_finds_the_wrong_uses_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "uses.py"
    file.write_text(USES)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-color-output", str(file)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split("uses.py:")[1].split(":")[0]) for line in told} == WRONG, done.stdout + done.stderr
    assert "no_such" in told[0] and "nme" in "".join(told[1:])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("basedpyright") is None, reason="no basedpyright")
def test_pyright_finds_the_wrong_uses_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "uses.py").write_text(USES)
    settings = {"typeCheckingMode": "standard", "include": ["uses.py"], "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    assert {d["range"]["start"]["line"] + 1 for d in found} == WRONG, done.stdout + done.stderr
