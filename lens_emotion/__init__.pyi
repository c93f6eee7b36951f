# Written by scripts/make_stub.py from the table of lens_emotion/__init__.py: change that, and run it again.

from lens_emotion import analysis as analysis
from lens_emotion import audits as audits
from lens_emotion import cli as cli
from lens_emotion import errors as errors
from lens_emotion import extraction as extraction
from lens_emotion import files as files
from lens_emotion import laws as laws
from lens_emotion import models as models
from lens_emotion import play as play
from lens_emotion import plots as plots
from lens_emotion import presets as presets
from lens_emotion import report as report
from lens_emotion import run as run
from lens_emotion import stats as stats
from lens_emotion import steering as steering
from lens_emotion import stimuli as stimuli
from lens_emotion import study as study
from lens_emotion import vectors as vectors
from lens_emotion.analysis.anisotropy import anisotropy as anisotropy
from lens_emotion.analysis.circumplex import circumplex as circumplex
from lens_emotion.analysis.compare import compare as compare
from lens_emotion.analysis.compare import compare_models as compare_models
from lens_emotion.analysis.decoding import decoding as decoding
from lens_emotion.analysis.drift import drift as drift
from lens_emotion.analysis.families import base_vs_instruct as base_vs_instruct
from lens_emotion.analysis.families import rsa_many as rsa_many
from lens_emotion.analysis.geometry import opposites as opposites
from lens_emotion.analysis.geometry import similarity as similarity
from lens_emotion.analysis.geometry import similarity_by_layer as similarity_by_layer
from lens_emotion.analysis.layers import layer_sweep as layer_sweep
from lens_emotion.analysis.lens import lens as lens
from lens_emotion.analysis.mixed import mixed_effects as mixed_effects
from lens_emotion.analysis.probes import probe as probe
from lens_emotion.analysis.reliability import reliability as reliability
from lens_emotion.analysis.rsa import rsa as rsa
from lens_emotion.analysis.rsa import rsa_activations as rsa_activations
from lens_emotion.analysis.rsa import rsa_human as rsa_human
from lens_emotion.analysis.separation import separation as separation
from lens_emotion.analysis.tokens import token_scores as token_scores
from lens_emotion.analysis.transfer import transfer as transfer
from lens_emotion.analysis.transfer import transfer_within as transfer_within
from lens_emotion.analysis.twins import twins_apart as twins_apart
from lens_emotion.analysis.ushape import two_lines as two_lines
from lens_emotion.analysis.words import beyond_words as beyond_words
from lens_emotion.audits.audit import audit as audit
from lens_emotion.errors import LensEmotionError as LensEmotionError
from lens_emotion.errors import OutOfMemoryError as OutOfMemoryError
from lens_emotion.extraction.activations import PooledActivations as PooledActivations
from lens_emotion.extraction.comprehension import activations_from_cache as activations_from_cache
from lens_emotion.extraction.comprehension import extract_comprehension as extract_comprehension
from lens_emotion.extraction.comprehension import extract_poolings as extract_poolings
from lens_emotion.extraction.comprehension import preview as preview
from lens_emotion.extraction.generation import extract_generation as extract_generation
from lens_emotion.extraction.pooling import Pooling as Pooling
from lens_emotion.extraction.pooling import content_mask as content_mask
from lens_emotion.extraction.pooling import last_token as last_token
from lens_emotion.extraction.pooling import middle_token as middle_token
from lens_emotion.extraction.pooling import story_mean as story_mean
from lens_emotion.extraction.static import static_embeddings as static_embeddings
from lens_emotion.laws.check import check as check
from lens_emotion.models.access import describe as describe
from lens_emotion.models.forward import residual_cache as residual_cache
from lens_emotion.models.loading import load_model as load_model
from lens_emotion.models.sampling import Sampling as Sampling
from lens_emotion.models.wrapping import wrap as wrap
from lens_emotion.play.explorer import explorer as explorer
from lens_emotion.run.config import StudyConfig as StudyConfig
from lens_emotion.run.sealed import read_seal as read_seal
from lens_emotion.steering.architecture import by_architecture as by_architecture
from lens_emotion.steering.classifier_judge import classifier_judge as classifier_judge
from lens_emotion.steering.comparison import compare_texts as compare_texts
from lens_emotion.steering.dose import Dose as Dose
from lens_emotion.steering.experiment import dose_response as dose_response
from lens_emotion.steering.experiment import everywhere as everywhere
from lens_emotion.steering.grid import steering_grid as steering_grid
from lens_emotion.steering.hooks import steering_hooks as steering_hooks
from lens_emotion.steering.judge_files import judge_from_file as judge_from_file
from lens_emotion.steering.judges import as_judge as as_judge
from lens_emotion.steering.judges import encoder_judge as encoder_judge
from lens_emotion.steering.judges import sentence_encoder as sentence_encoder
from lens_emotion.steering.judges import states_judge as states_judge
from lens_emotion.steering.judges import word_count_judge as word_count_judge
from lens_emotion.steering.leakage import leakage as leakage
from lens_emotion.steering.regime_map import regime_map as regime_map
from lens_emotion.steering.solve import iso_kl as iso_kl
from lens_emotion.steering.steer import ablate as ablate
from lens_emotion.steering.steer import steer as steer
from lens_emotion.steering.texts import generate as generate
from lens_emotion.stimuli.emotions import EMOTIONS as EMOTIONS
from lens_emotion.stimuli.lexicon import lexicon as lexicon
from lens_emotion.stimuli.library import load_stimuli as load_stimuli
from lens_emotion.stimuli.library import stimuli_from as stimuli_from
from lens_emotion.stimuli.lint import lint as lint
from lens_emotion.stimuli.prompts import Scenario as Scenario
from lens_emotion.stimuli.prompts import StoryPrompt as StoryPrompt
from lens_emotion.stimuli.prompts import scenarios as scenarios
from lens_emotion.stimuli.prompts import story_prompts as story_prompts
from lens_emotion.stimuli.sets import Stimulus as Stimulus
from lens_emotion.stimuli.sets import StimulusSet as StimulusSet
from lens_emotion.study.methods import methods_text as methods_text
from lens_emotion.study.pipeline import run_study as run_study
from lens_emotion.study.power import power_of as power_of
from lens_emotion.study.stored import read_run as read_run
from lens_emotion.vectors.emotion_vectors import EmotionVector as EmotionVector
from lens_emotion.vectors.emotion_vectors import EmotionVectors as EmotionVectors
from lens_emotion.vectors.emotion_vectors import mixture as mixture
from lens_emotion.vectors.hub import pull_vectors as pull_vectors
from lens_emotion.vectors.hub import push_vectors as push_vectors
from lens_emotion.vectors.interchange import from_gguf as from_gguf
from lens_emotion.vectors.interchange import from_steering_vector as from_steering_vector
from lens_emotion.vectors.interchange import to_gguf as to_gguf
from lens_emotion.vectors.interchange import to_steering_vector as to_steering_vector
from lens_emotion.vectors.own import vector as vector
from lens_emotion.vectors.recipes import emotion_vectors as emotion_vectors

__version__: str
__all__ = [
    "__version__",
    "Dose",
    "EMOTIONS",
    "EmotionVector",
    "EmotionVectors",
    "LensEmotionError",
    "OutOfMemoryError",
    "PooledActivations",
    "Pooling",
    "Sampling",
    "Scenario",
    "Stimulus",
    "StimulusSet",
    "StoryPrompt",
    "StudyConfig",
    "ablate",
    "activations_from_cache",
    "anisotropy",
    "as_judge",
    "audit",
    "base_vs_instruct",
    "beyond_words",
    "by_architecture",
    "check",
    "circumplex",
    "classifier_judge",
    "compare",
    "compare_models",
    "compare_texts",
    "content_mask",
    "decoding",
    "describe",
    "dose_response",
    "drift",
    "emotion_vectors",
    "encoder_judge",
    "everywhere",
    "explorer",
    "extract_comprehension",
    "extract_generation",
    "extract_poolings",
    "from_gguf",
    "from_steering_vector",
    "generate",
    "iso_kl",
    "judge_from_file",
    "last_token",
    "layer_sweep",
    "leakage",
    "lens",
    "lexicon",
    "lint",
    "load_model",
    "load_stimuli",
    "methods_text",
    "middle_token",
    "mixed_effects",
    "mixture",
    "opposites",
    "power_of",
    "preview",
    "probe",
    "pull_vectors",
    "push_vectors",
    "read_run",
    "read_seal",
    "regime_map",
    "reliability",
    "residual_cache",
    "rsa",
    "rsa_activations",
    "rsa_human",
    "rsa_many",
    "run_study",
    "scenarios",
    "sentence_encoder",
    "separation",
    "similarity",
    "similarity_by_layer",
    "states_judge",
    "static_embeddings",
    "steer",
    "steering_grid",
    "steering_hooks",
    "stimuli_from",
    "story_mean",
    "story_prompts",
    "to_gguf",
    "to_steering_vector",
    "token_scores",
    "transfer",
    "transfer_within",
    "twins_apart",
    "two_lines",
    "vector",
    "word_count_judge",
    "wrap",
    "plots",
]
