"""Find, locate, test and steer emotion representations in small language models, on TransformerLens.

    import lens_emotion as le
    model = le.load_model("tiny-llama")
    acts = le.extract_comprehension(model)
    vectors = le.emotion_vectors(acts)
    le.plots.layer_sweep(le.layer_sweep(acts)).show()
    with le.steer(model, vectors["calm"], dose=3):
        print(model.generate("The door opened and", max_new_tokens=40))

Names load on first use (PEP 562): importing this package imports neither torch nor plotly.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lens_emotion.version import __version__

_HOME = {
    "errors": ("LensEmotionError",),
    "models.loading": ("load_model",),
    "models.access": ("ModelInfo", "describe"),
    "models.catalog": ("CATALOG", "ModelSpec", "find_spec"),
    "models.decoding": ("Sampling", "generate_tokens"),
    "stimuli.emotions": ("EMOTIONS", "NEUTRAL", "OPPOSITE_PAIRS", "scripts_of", "valence_arousal"),
    "stimuli.sets": ("Stimulus", "StimulusSet", "load_stimuli"),
    "stimuli.prompts": ("Scenario", "StoryPrompt", "scenarios", "story_prompts"),
    "extraction.capture": ("residual_cache",),
    "extraction.pooling": ("Pooling", "last_token", "middle_token", "pool_cache", "story_mean"),
    "extraction.comprehension": ("activations_from_cache", "extract_comprehension", "extract_poolings", "preview"),
    "extraction.generation": ("GeneratedActivations", "extract_generation"),
    "extraction.activations": ("PooledActivations", "TextRecord"),
    "vectors.emotion_vectors": ("EmotionVector", "EmotionVectors", "mixture", "parse_mixture", "random_like"),
    "vectors.recipes": ("emotion_vectors",),
    "vectors.interchange": ("from_gguf", "from_steering_vector", "to_gguf", "to_steering_vector"),
    "vectors.hub": ("pull_vectors", "push_vectors"),
    "run.config": ("StudyConfig", "read_study_file"),
    "steering.judge_files": ("judge_from_file",),
    "analysis.separation": ("mean_pairwise_cosine", "separation"),
    "analysis.decoding": ("decoding",),
    "analysis.reliability": ("reliability",),
    "analysis.layers": ("layer_sweep",),
    "analysis.anisotropy": ("anisotropy",),
    "analysis.geometry": ("circumplex", "opposites", "similarity", "similarity_by_layer"),
    "analysis.probes": ("probe",),
    "analysis.transfer": ("transfer", "transfer_within"),
    "analysis.compare": ("compare", "compare_models"),
    "analysis.drift": ("drift",),
    "analysis.rsa": ("rsa", "rsa_activations", "rsa_human"),
    "analysis.families": ("base_vs_instruct", "rsa_many"),
    "analysis.lens": ("lens",),
    "analysis.tokens": ("TokenScores", "token_scores"),
    "analysis.ushape": ("two_lines",),
    "steering.dose": ("Dose",),
    "steering.hooks": ("ablate", "projection_centre", "steer", "steering_hooks"),
    "steering.solve": ("iso_kl", "solve_edge", "solve_kl"),
    "steering.grid": ("GridResult", "steering_grid"),
    "steering.generate": ("Condition", "generate_steered"),
    "steering.measures": ("distinct_n", "loop_share", "mean_nll", "perplexity_ratio"),
    "steering.judges": ("Judge", "as_judge", "encoder_judge", "states_judge", "word_count_judge"),
    "steering.classifier_judge": ("classifier_judge",),
    "steering.experiment": ("dose_response",),
    "steering.dose_result": ("DoseResponse",),
    "steering.leakage": ("Leakage", "leakage"),
    "steering.regime_map": ("RegimeMap", "regime_map"),
    "steering.architecture": ("by_architecture",),
    "steering.comparison": ("Push", "compare_texts", "own_thresholds", "write_side_by_side"),
    "play.explorer": ("explorer",),
    "laws.check": ("CheckReport", "check"),
    "study.pipeline": ("run_study",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_ROOMS = ("models", "stimuli", "extraction", "vectors", "analysis", "steering", "laws", "study", "plots", "report")

__all__ = ["__version__", *sorted(_MODULE_OF), "plots"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"lens_emotion.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"lens_emotion.{name}")
    raise AttributeError(f"module 'lens_emotion' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_ROOMS})
