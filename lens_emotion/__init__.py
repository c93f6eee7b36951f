"""Find, locate, test and steer emotion representations in small language models, on TransformerLens.

    import lens_emotion as le
    model = le.load_model("tiny-llama")
    acts = le.extract_comprehension(model)
    vectors = le.emotion_vectors(acts)
    le.plots.layer_sweep(le.layer_sweep(acts)).show()
    print(le.generate(model, "The door opened and", steering=le.steer(model, vectors["calm"], dose=3)))

Names load on first use (PEP 562): importing this package imports neither torch nor plotly. What is not named here is
reached through its room, such as `le.steering.measures.distinct_n`. Editors and type checkers read `__init__.pyi`,
which `python scripts/make_stub.py` writes from the table below.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from inspect import isfunction
from typing import Any

from lens_emotion.habits import answering, like
from lens_emotion.version import __version__

_HOME = {
    "errors": ("LensEmotionError", "OutOfMemoryError"),
    "models.loading": ("load_model",),
    "models.wrapping": ("wrap",),
    "models.access": ("describe",),
    "models.sampling": ("Sampling",),
    "stimuli.emotions": ("EMOTIONS",),
    "stimuli.sets": ("Stimulus", "StimulusSet"),
    "stimuli.library": ("load_stimuli", "stimuli_from"),
    "stimuli.lint": ("lint",),
    "stimuli.lexicon": ("lexicon",),
    "stimuli.prompts": ("Scenario", "StoryPrompt", "scenarios", "story_prompts"),
    "models.forward": ("residual_cache",),
    "extraction.pooling": ("Pooling", "content_mask", "last_token", "middle_token", "story_mean"),
    "extraction.comprehension": ("activations_from_cache", "extract_comprehension", "extract_poolings", "preview"),
    "extraction.generation": ("extract_generation",),
    "extraction.static": ("static_embeddings",),
    "extraction.activations": ("PooledActivations",),
    "vectors.emotion_vectors": ("EmotionVector", "EmotionVectors", "mixture"),
    "vectors.own": ("vector",),
    "vectors.recipes": ("emotion_vectors",),
    "vectors.interchange": ("from_gguf", "from_steering_vector", "to_gguf", "to_steering_vector"),
    "vectors.hub": ("pull_vectors", "push_vectors"),
    "run.config": ("StudyConfig",),
    "run.sealed": ("read_seal",),
    "study.power": ("power_of",),
    "steering.judge_files": ("judge_from_file",),
    "analysis.separation": ("separation",),
    "analysis.decoding": ("decoding",),
    "analysis.reliability": ("reliability",),
    "analysis.layers": ("layer_sweep",),
    "analysis.anisotropy": ("anisotropy",),
    "analysis.geometry": ("opposites", "similarity", "similarity_by_layer"),
    "analysis.circumplex": ("circumplex",),
    "analysis.probes": ("probe",),
    "analysis.twins": ("twins_apart",),
    "analysis.words": ("beyond_words",),
    "analysis.transfer": ("transfer", "transfer_within"),
    "analysis.compare": ("compare", "compare_models"),
    "analysis.drift": ("drift",),
    "analysis.rsa": ("rsa", "rsa_activations", "rsa_human"),
    "analysis.families": ("base_vs_instruct", "rsa_many"),
    "analysis.lens": ("lens",),
    "analysis.mixed": ("mixed_effects",),
    "analysis.tokens": ("token_scores",),
    "analysis.ushape": ("two_lines",),
    "steering.dose": ("Dose",),
    "steering.hooks": ("steering_hooks",),
    "steering.steer": ("ablate", "steer"),
    "steering.texts": ("generate",),
    "steering.solve": ("iso_kl",),
    "steering.grid": ("steering_grid",),
    "steering.judges": ("as_judge", "encoder_judge", "sentence_encoder", "states_judge", "word_count_judge"),
    "steering.classifier_judge": ("classifier_judge",),
    "steering.experiment": ("dose_response", "everywhere"),
    "steering.leakage": ("leakage",),
    "steering.regime_map": ("regime_map",),
    "steering.architecture": ("by_architecture",),
    "steering.comparison": ("compare_texts",),
    "audits.audit": ("audit",),
    "play.explorer": ("explorer",),
    "laws.check": ("check",),
    "study.methods": ("methods_text",),
    "study.pipeline": ("run_study",),
    "study.stored": ("read_run",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_ROOMS = (
    "errors", "files", "models", "stimuli", "extraction", "vectors", "stats", "analysis", "steering", "presets", "laws",
    "run", "study", "audits", "report", "play", "cli",
)  # fmt: skip

__all__ = ["__version__", *sorted(_MODULE_OF), "plots"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"lens_emotion.{_MODULE_OF[name]}"), name)
        globals()[name] = value = answering(value, __name__) if isfunction(value) else value
        return value
    if name in _ROOMS or name == "plots":
        return import_module(f"lens_emotion.{name}")
    raise AttributeError(f"module 'lens_emotion' has no attribute '{name}'{like(name, [*__all__, *_ROOMS])}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _files_of(room: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room: its files load on first use too."""

    def load(name: str) -> Any:
        if name.startswith("__") or find_spec(f"{room}.{name}") is None:
            raise AttributeError(f"module '{room}' has no attribute '{name}'")
        return import_module(f"{room}.{name}")

    return load
