"""The methods paragraphs of a run: what was done, with this run's numbers and with citations, ready to paste.

Every number is read from the run folder: the manifest, each model's facts, and the headers and tables of its steps.
Where models differ, each wording names its models. Nothing is analysed, no model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings

import pandas as pd

from lens_emotion.display import Brief
from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.read import read_json
from lens_emotion.files.user import record
from lens_emotion.models.access import ModelInfo
from lens_emotion.run.config import CONTROLS, PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.look import Manifest, read_table
from lens_emotion.run.store import Store
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.stimuli.sets import StimulusSet, read_written
from lens_emotion.study.one_model import FACTS
from lens_emotion.study.results import StudyRun
from lens_emotion.study.seal import state_of
from lens_emotion.study.steps import DOSES, STORIES, load_steered
from lens_emotion.study.stored import ModelFacts, manifest_of
from lens_emotion.study.verdict import BROKEN, NOT_TESTABLE, SEALED
from lens_emotion.vectors.emotion_vectors import EmotionVectors

# as the text names them -> as the list of references does
REFERENCES = {
    "Benjamini and Heller 2008": "Benjamini, Y., and Heller, R. (2008). Screening for partial conjunction hypotheses. "
    "Biometrics 64, 1215-1222.",
    "Brown 1910": "Brown, W. (1910). Some experimental results in the correlation of mental abilities. British Journal "
    "of Psychology 3, 296-322.",
    "Holm 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of "
    "Statistics 6, 65-70.",
    "Jeong 2026": "Jeong, J. (2026). Extracting and Steering Emotion Representations in Small Language Models: A "
    "Methodological Comparison. arXiv 2604.04064.",
    "McNemar 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions "
    "or percentages. Psychometrika 12, 153-157.",
    "Nanda and Bloom 2022": "Nanda, N., and Bloom, J. (2022). TransformerLens. "
    "https://github.com/TransformerLensOrg/TransformerLens.",
    "Sofroniew et al. 2026": "Sofroniew et al. (2026). Emotion Concepts and their Function in a Large Language Model. "
    "arXiv 2604.07729.",
    "Spearman 1910": "Spearman, C. (1910). Correlation calculated from faulty data. British Journal of Psychology 3, "
    "271-295.",
    "Wilson 1927": "Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. "
    "Journal of the American Statistical Association 22, 209-212.",
    "Wolpert 1992": "Wolpert, D. H. (1992). Stacked generalization. Neural Networks 5, 241-259.",
}
_RECIPES = {
    "centred": "the mean over its texts less the mean over emotions",
    "neutral": "the mean over its texts less the mean of the neutral texts (Jeong 2026)",
    "neutral_pca": "the mean over its texts less the mean over emotions, without the main components of neutral text "
    "(Sofroniew et al. 2026)",
}


_SOFTWARE = {
    "lens-emotion": "lens_emotion", "transformer-lens": "TransformerLens", "transformers": "transformers",
    "torch": "PyTorch",
}  # fmt: skip
WORDS = "words_baselines.csv"
_Stories = tuple[StimulusSet, str]  # what was written, and why it could not be analysed ("" if it could)


@dataclass(frozen=True, eq=False, repr=False)
class _Studied(Brief):
    """One model of a run, as far as its methods go."""

    config: StudyConfig
    info: ModelInfo
    kind: str
    millions: float | None
    read: PooledActivations
    recipe: str
    controls: int
    written: _Stories | None
    preset: _Stories | None
    steering: DoseResponse | None
    sources: tuple[str, ...]  # of words, that its states were held against


def methods_text(run: str | Path | StudyRun) -> str:
    """What a study did, in paragraphs for a paper's methods section, with the references that they cite.

    Args:
        run: the folder of a finished run, or what `le.run_study` returned.

    Returns:
        Plain text: paragraphs parted by empty lines, then the list of references.

    Raises:
        ArtifactError: no run, an unfinished one, or one with a damaged file.

    Example:
        >>> print(le.methods_text("runs/study"))  # doctest: +SKIP
    """
    if not isinstance(run, str | Path | StudyRun):
        raise ArtifactError(
            f"methods_text takes the folder of a run, or what run_study returned; got {type(run).__name__}"
        )
    root = Path(run.folder if isinstance(run, StudyRun) else run)
    manifest = manifest_of(root)
    asked = zip(manifest.rows, manifest.settings.models, strict=True)
    with catch_warnings(action="ignore"):  # an older version's files: whoever reads their numbers is told
        models = [_studied(Store(root).model(row.name).root, manifest.settings.for_model(m)) for row, m in asked]
    paragraphs = (
        _subjects(manifest, models), _reading(models), _tests(models), _words(models), _writing(manifest, models),
        _steering(models), _claims(root), _published(models), _sealed(root, manifest),
    )  # fmt: skip
    text = "\n\n".join(filter(None, paragraphs))
    cited = [reference for name, reference in REFERENCES.items() if name in text]
    return f"{text}\n\nReferences\n\n" + "\n".join(cited) + "\n"


def _studied(folder: Path, config: StudyConfig) -> _Studied:
    facts = record(ModelFacts, read_json(folder / FACTS), str(folder / FACTS))

    def written(step: str) -> _Stories | None:
        there = step in config.steps and (folder / step / STORIES).exists()
        return read_written(folder / step / STORIES) if there else None

    steered = config.steering and (folder / STEERING / DOSES).exists()
    words = folder / "tables" / WORDS
    return _Studied(
        config=config,
        info=record(ModelInfo, facts.info, f"info of {folder / FACTS}"),
        kind=facts.kind,
        millions=facts.millions,
        read=PooledActivations.load(folder / READING / "story_mean.safetensors"),
        controls=len(PooledActivations.load(plain))
        if (plain := folder / CONTROLS / "plain.safetensors").exists()
        else 0,
        recipe=EmotionVectors.load(folder / "vectors.safetensors").header.recipe,
        written=written(WRITING),
        preset=written(PRESET),
        steering=load_steered(folder / STEERING)[0] if steered else None,
        sources=tuple(map(str, read_table(words)["source"].unique()[:-1])) if words.exists() else (),  # last: all
    )


def _each(models: Sequence[_Studied], words: Callable[[_Studied], str]) -> str:
    """What the words say of the models: once where they agree, else each wording with its models' names."""
    said: dict[str, list[str]] = {}
    for m in models:
        said.setdefault(words(m), []).append(m.info.name)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{_listed(names)}: {text}" for text, names in said.items())


def _listed(words: Iterable[object]) -> str:
    """ "a, b and c"."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def _subjects(manifest: Manifest, models: Sequence[_Studied]) -> str:
    """Who was studied, with what."""
    v = manifest.versions

    def subject(m: _Studied) -> str:
        size = f", {m.millions:.3g}M parameters" if m.millions else ""
        return (
            f"{m.info.name} ({m.info.family}, {m.kind}, {m.info.n_layers} layers, {m.info.d_model} dimensions{size}; "
            f"fingerprint {m.info.fingerprint[:15]})"
        )

    with_ = [f"{title} {v[key]}" for key, title in _SOFTWARE.items() if key in v]

    def weights(m: _Studied) -> str:
        width = f" ({m.config.quantise})" if m.config.quantise else ""
        return f"{'folded and centred' if m.info.processed else 'as published'}, in {m.info.dtype}{width}"

    return (
        f"We studied emotion representations in {_listed(subject(m) for m in models)} with {_listed(with_)} (Nanda and "
        "Bloom 2022 for TransformerLens). lens_emotion re-implements, and goes beyond, the protocol of the original "
        f"study (Jeong 2026). Weights were {_each(models, weights)}; the residual stream was taken after every "
        f"block. The seed was {_each(models, lambda m: str(m.config.seed))}."
    )


def _reading(models: Sequence[_Studied]) -> str:
    """Which texts were read, how they became rows, and the rows vectors."""

    sets: dict[str, dict[str, None]] = {}  # one text file may go by two names
    for m in models:
        sets.setdefault(m.read.header.stimuli_sha256, {})[m.read.header.stimuli] = None

    def texts(m: _Studied) -> str:
        acts, neutral = m.read, len(m.read.neutral)
        beside = f", and {neutral} neutral texts" if neutral else ""
        beside += f", and {m.controls} further neutral texts as a control" if m.controls else ""
        of = f" (of these emotions alone: {_listed(m.config.emotions)})" if m.config.emotions else ""
        names = sets[acts.header.stimuli_sha256]
        source = f"that the sets {_listed(names)} share" if len(names) > 1 else f"of the set {_listed(names)}"
        return (
            f"{len(acts) - neutral} texts{of} {source} (SHA-256 "
            f"{acts.header.stimuli_sha256[:12]}) on {len(acts.emotions)} emotions and {len(acts.emotional.topics)} "
            f"topics{beside}, {acts.n_tokens.mean():.0f} tokens averaged per text"
        )

    vectors = _each(models, lambda m: _RECIPES.get(m.recipe, f"made by the recipe {m.recipe}"))
    return (
        f"Reading. Each model read labelled texts in one pass ({_each(models, texts)}). A text's row at a layer "
        "is the mean over its content tokens; special tokens, padding and the first position are left out. In front of "
        f"a text stood what the tokenizer puts there ({_each(models, lambda m: m.info.first_token or 'not recorded')})."
        f" An emotion's vector is {vectors}."
    )


def _tests(models: Sequence[_Studied]) -> str:
    """How it was asked whether emotions can be told apart."""
    n = _each(models, lambda m: str(m.config.n_permutations))
    return (
        "Separation. Emotions were decoded at every layer with topics held out, by the nearest class mean in centred "
        "cosine and again with every dimension standardised within the fold. p-values come from label permutations "
        f"({n}) and are corrected over layers against the best layer of each permutation. The mean pairwise cosine "
        "between emotion vectors, the original study's measure (Jeong 2026), is of vectors less the mean of the "
        "neutral texts, as there, and is given only beside its permutation null and the split-half reliability of the "
        "vectors (Spearman 1910; Brown 1910)."
    )


def _words(models: Sequence[_Studied]) -> str:
    """Which words the states were held against; "" where they were not."""
    asked = [m for m in models if m.sources]
    if not asked:
        return ""
    return (
        f"Words. On the same folds the emotions were decoded from the words alone ({_each(asked, _sources)}; nearest "
        "class means and ridge regressions, stacked; Wolpert 1992), and from words and states together. What the "
        "states add is the difference of the two, at layers that other folds chose, against states exchanged between "
        "texts."
    )


def _sources(m: _Studied) -> str:
    return _listed(m.sources)


def _writing(manifest: Manifest, models: Sequence[_Studied]) -> str:
    """Which stories were written, and how they were read; "" where none was asked for."""
    asked = [m for m in models if m.written]
    if not asked:
        return ""
    asked_for = [f"{name.replace('_', '-')} {value:g}" for name, value in manifest.sampling.items()]
    drawn = f" at {_listed(asked_for)}" if asked_for else ""

    def stories(m: _Studied) -> str:
        assert m.written
        written, why = m.written
        lost = f" (not analysed: {why})" if why else ""
        return f"{len(written)} stories of at most {m.config.story_tokens} tokens, sampled{drawn}{lost}"

    text = (
        f"Writing. Each model wrote stories to prompts that cross emotions with topics ({_each(asked, stories)}), "
        "which were then read twice: with the instruction in front, and bare."
    )
    preset = [m for m in asked if m.preset]
    if not preset:
        return text

    def greedy(m: _Studied) -> str:
        assert m.preset
        written, why = m.preset
        lost = f" (not analysed: {why})" if why else ""
        return f"{len(written)} greedy stories of at most {m.config.jeong_tokens} tokens{lost}"

    return (
        f"{text} The original study's presets (Jeong 2026) were run as well: {_each(preset, greedy)}, read at their "
        "middle token, and passages at their last token."
    )


def _steering(models: Sequence[_Studied]) -> str:
    """What was steered, and judged how; "" where nothing was."""
    asked = [m for m in models if m.steering]
    if not asked:
        return ""

    def experiment(m: _Studied) -> str:
        assert m.steering
        return (
            f"layer {m.steering.layer}, {len(m.steering.unsteered)} openings for {m.steering.n_emotions} emotions, at "
            f"most {m.config.steered_tokens} tokens, doses {_listed(f'{d:g}' for d in m.config.doses)}"
        )

    def relative(m: _Studied) -> str:
        assert m.steering
        doses = m.steering.table.dose_relative
        return f"{doses.min():.2g} to {doses.max():.2g}"

    other = "two sets of random directions of the same length, and another emotion's vector of that length"
    other = other if all(len(m.steering.others) for m in asked if m.steering) else other.split(", and")[0]
    return (
        "Steering. A multiple of the emotion's vector was added to the residual stream at every position "
        f"({_each(asked, experiment)}). A dose of one is the distance from an average text of the emotion to the mean "
        f"over emotions (as shares of the mean residual norm, {_each(asked, relative)}). Every dose stood beside "
        f"unsteered text, {other}. A text succeeds if the judge's score for the target lies above that of the "
        "unsteered text and above the 95th percentile of the first random set; the second is the control. The judge "
        f"was {_each(asked, lambda m: _judge(m.steering))}. Rates have Wilson intervals (Wilson 1927) and are compared "
        "with their controls by exact McNemar tests (McNemar 1947), corrected over doses (Holm 1979). Where one rate "
        "is given, its dose was chosen on other openings."
    )


def _judge(steering: DoseResponse | None) -> str:
    assert steering
    return steering.judge if steering.judge_independent else f"{steering.judge}, which is the steered model itself"


def _claims(root: Path) -> str:
    """Which smallest effects the claims were held against; "" in a run without that table."""
    path = root / "tables" / "claims.csv"
    if not path.exists():
        return ""
    table = read_table(path)
    small = table.dropna(subset=["smallest"]).groupby("code").smallest if "smallest" in table else ()
    declared = [f"{_range(values[values > 0])} for {code}" for code, values in small if values.max() > 0]
    against = f" The smallest effects of interest were {_listed(declared)}." if declared else ""
    by_code = table.groupby("code").verdict.agg(set)
    codes = sorted(
        map(str, by_code.index), key=lambda code: (re.sub(r"\d", "", code), int(re.sub(r"\D", "", code) or 0))
    )
    asked = [code for code in codes if by_code[code] != {NOT_TESTABLE}]
    idle = [code for code in codes if code not in asked]
    untested = f" This run could not ask {_listed(idle)}." if idle else ""
    if not asked:
        return ""
    own = [code for code in asked if not code.startswith("C")]
    asked = [code for code in asked if code not in own]
    ours = f" and {_listed(own)}, which is ours," if own else ""
    over = " Over models, p-values were combined by partial conjunction (Benjamini and Heller 2008)."
    return (
        f"Claims. The claims {_listed(asked)} of the original study (Jeong 2026){ours} were tested as declared: a "
        "claim counts as supported where its interval excludes zero (for C2: lies within the middle third) and no "
        "control explains it, as not supported where "
        f"its interval excludes the smallest effect of interest, and else as undetermined.{against}"
        f"{over if table.scope.nunique() > 2 else ''}{untested}"
    )


def _published(models: Sequence[_Studied]) -> str:
    """That the published protocol judged as well, and by which rules; "" in a study of ours alone."""
    asked = [m for m in models if m.config.protocol != "ours"]
    if not asked:
        return ""
    steered = [m for m in asked if m.config.steering]
    pushed = (
        "; steering: one layer's unit vector added at all layers, in multiples of the mean norm over all positions, "
        "the first among them"
    )
    return (
        "Published protocol. Every claim was judged a second time by the protocol of the original study (Jeong 2026), "
        "as far as its author's code is public and as inferred elsewhere (tables/protocols.csv says what): vectors of "
        "three passages an emotion, read at their last token; the layer of their lowest mean cosine; regimes by words "
        f"between spaces{pushed if steered else ''}. Its numbers stand beside controls of ours."
    )


def _sealed(root: Path, manifest: Manifest) -> str:
    """What was laid down before the data; "" in a run without a seal."""
    state = state_of(root, manifest.settings, names=manifest.names)
    if state.status == BROKEN:
        return f"Seal. {state.line()}"
    if state.status != SEALED:
        return ""
    return (
        f"Seal. Design, texts, thresholds, rules and power were written down before the first reading ({state.date}, "
        f"SHA-256 {state.sha256}); numbers that are no claim's are exploratory."
    )


def _range(values: pd.Series) -> str:
    """One number, or from the least to the largest."""
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} to {high}"
