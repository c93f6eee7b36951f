"""Hooks of the documentation site (`mkdocs.yml`): formulas as MathML, and one API page per room.

Formulas become MathML when the site is built, so that no script and no font is fetched when a page is opened. The API
pages are made from the table of public names in `lens_emotion/__init__.py`: a new name is on the site by itself.
"""

from __future__ import annotations

import ast
import html
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lens_emotion"
API = "API reference"
# arithmatex leaves \(...\) in a span and \[...\] in a div
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# public, but reached through their room: the reference lists them too
BY_ROOM = {
    "models.access": ("ModelInfo",),
    "models.catalog": ("CATALOG", "ModelSpec", "find_spec"),
    "models.decoding": ("generate_tokens",),
    "stimuli.emotions": ("NEUTRAL", "OPPOSITE_PAIRS", "scripts_of", "valence_arousal"),
    "extraction.pooling": ("pool_cache",),
    "extraction.generation": ("GeneratedActivations",),
    "extraction.activations": ("TextRecord",),
    "vectors.emotion_vectors": ("mixture", "parse_mixture", "random_like"),
    "run.config": ("read_study_file",),
    "analysis.separation": ("mean_pairwise_cosine",),
    "analysis.tokens": ("TokenScores",),
    "steering.hooks": ("projection_centre",),
    "steering.solve": ("solve_edge", "solve_kl"),
    "steering.grid": ("GridResult",),
    "steering.generate": ("Condition", "generate_steered"),
    "steering.measures": ("distinct_n", "loop_share", "mean_nll", "perplexity_ratio"),
    "steering.judges": ("Judge",),
    "steering.dose_result": ("DoseResponse",),
    "steering.leakage": ("Leakage",),
    "stimuli.lexicon": ("Lexicon", "Recall"),
    "steering.regime_map": ("RegimeMap",),
    "steering.comparison": ("Push", "own_thresholds", "write_side_by_side"),
    "laws.check": ("CheckReport",),
}

# what the examples of the reference go on from; printed above them, and run by tests/test_docstrings.py
EXAMPLES = """\
import lens_emotion as le

model = le.load_model("tiny-llama")
texts = le.load_stimuli("world-en", per_cell=1)
acts = le.extract_comprehension(model, texts)
vectors = le.emotion_vectors(acts)
some = ("happy", "sad", "calm", "angry")
prompts = [p for p in le.story_prompts(stimuli="world-en") if p.emotion in some]
stories = le.extract_generation(model, prompts, max_new_tokens=24).reread
scenes = [s for s in le.scenarios("world-en") if s.emotion in some]
judge = le.word_count_judge({"happy": ["smiled"], "sad": ["wept"], "calm": ["calm"], "angry": ["angry"]})
steered = le.dose_response(model, vectors, scenes, judge, doses=(1.0, 4.0), max_new_tokens=8)
"""


def on_config(config: Any) -> Any:
    """Put the API pages into the navigation, behind the gallery of what they draw."""
    for entry in config["nav"]:
        if API in entry:
            entry[API] = [{"Gallery": "gallery.md"}, *({room: page} for room, page in _pages().items())]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the API pages, which exist nowhere on disk."""
    from mkdocs.structure.files import File

    for room, page in _pages().items():
        files.append(File.generated(config, page, content=api_page(room)))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Formulas in place of their TeX."""
    return FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    tex = html.unescape(match.group(2)).strip()
    found = str(convert(tex, display="block" if match.group(1) == "div" else "inline"))
    if "\\" in found:  # a command that latex2mathml does not know is left as it is
        raise ValueError(f"no MathML for the formula {tex}; say it in other commands")
    return found


def _pages() -> dict[str, str]:
    return {room: f"api/{room}.md" for room in api_rooms()}


@cache
def api_rooms() -> dict[str, list[tuple[str, str]]]:
    """Room -> (module, name) of every public name and of the classes that the modules of public names define.

    Names are listed where they are defined, not where they are passed on.
    """
    rooms: dict[str, list[tuple[str, str]]] = {}
    for module, names in [*_home().items(), *BY_ROOM.items()]:
        found = rooms.setdefault(module.split(".")[0], [])
        for name in names:
            home = _definer(module, name)
            for pair in ((home, name), *((home, c) for c in _classes(home))):
                if pair not in found:
                    found.append(pair)
    rooms["plots"] = [(_definer("plots", name), name) for name in _exports("plots")]
    return rooms


def api_page(room: str) -> str:
    """The page of one room: every name under the text of its module."""
    lines, last = [f"# lens_emotion.{room}\n\nExamples go on from:\n\n```python\n{EXAMPLES}```"], ""
    for module, name in sorted(api_rooms()[room], key=lambda pair: pair[0]):  # stable: names keep their order
        if module != last:
            lines.append(f"\n## {module}\n\n{_first_sentence(module)}")
        lines.append(f"\n::: lens_emotion.{module}.{name}\n    options:\n      heading_level: 3")
        last = module
    return "\n".join(lines) + "\n"


def _home() -> dict[str, tuple[str, ...]]:
    """Module -> public names, as the package itself looks them up."""
    for node in _tree("").body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME":
            return dict(ast.literal_eval(node.value))
    raise LookupError("lens_emotion/__init__.py has no table _HOME")


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _definer(module: str, name: str) -> str:
    """The module that defines a name which another may only pass on."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _definer((node.module or "").removeprefix("lens_emotion."), name)
    return module


def _exports(module: str) -> list[str]:
    """What `__all__` names."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"lens_emotion.{module} has no __all__")


def _classes(module: str) -> list[str]:
    nodes = [n for n in _tree(module).body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    return [n.name for n in nodes if ast.get_docstring(n)]


def _first_sentence(module: str) -> str:
    return (ast.get_docstring(_tree(module)) or "").split("\n\n")[0].replace("\n", " ")
