"""`check`: every law holds on every tiny model and both backends, and every law can be broken."""

from __future__ import annotations

import itertools
import math
import sys
from contextlib import ExitStack, contextmanager

import pytest
import torch
from conftest import needs_hooked, tiny

from lens_emotion.cli.app import main
from lens_emotion.errors import FingerprintError, ProcessedModelError
from lens_emotion.extraction.while_writing import watch
from lens_emotion.laws import copies, reading, steering
from lens_emotion.laws.check import LAWS, check
from lens_emotion.laws.subject import Law, deviation, found
from lens_emotion.models import decoding, identity, prompting
from lens_emotion.models.access import backend_of, hook_name
from lens_emotion.models.loading import load_model
from lens_emotion.models.prompting import encode
from lens_emotion.steering.hooks import steering_hooks

NAMES = {law.name: law for law in LAWS}


def test_every_law_holds_on_every_family_and_backend(model):
    report = check(model, compare=backend_of(model) == "bridge")  # the Bridge is compared with both others
    assert report.ok, report.table[["law", "deviation", "note"]]
    assert len(report.table) == 16 and report.seconds < 60
    tried = report.table[report.table.skipped == ""]
    assert len(tried) == 16 - 2 * (backend_of(model) == "hooked")
    assert tried.deviation.notna().all()


@needs_hooked
def test_a_hooked_transformer_is_compared_with_plain_and_bridge():
    report = check(tiny("tiny-gpt2", "hooked"), laws=[NAMES[copies_law()]])
    assert report.ok
    assert "Hugging Face" in report.results[0].note and "Bridge" in report.results[0].note


def copies_law() -> str:
    return next(law.name for law in LAWS if law.measure is copies.copies_agree)


def on_stream(change):
    """The model itself is broken: `change` is done to the residual stream after its third block."""

    def broken(monkeypatch, model, stack):
        stack.enter_context(model.hooks(fwd_hooks=[(hook_name(2), lambda tensor, hook: change(tensor))]))

    return broken


def columns(tensor):
    return tensor * (1 + 0.01 * torch.arange(tensor.shape[1])[None, :, None])


def scaled_states(monkeypatch, model, stack):
    real = reading.states_alone
    monkeypatch.setattr(reading, "states_alone", lambda model, ids: 1.001 * real(model, ids))


def one_step_late(monkeypatch, model, stack):
    seen = []
    monkeypatch.setattr(reading, "watch", lambda *args: seen.append(watch(*args)) or seen[0])

    def generate(*args, **options):
        written = decoding.generate_tokens(*args, **options)
        held = seen[0].cache.cache_dict
        held.update({name: states.roll(1, dims=1) for name, states in held.items()})
        return written

    monkeypatch.setattr(reading, "generate_tokens", generate)


def zero_is_not_zero(monkeypatch, model, stack):
    real = steering.steer
    monkeypatch.setattr(steering, "steer", lambda m, v, dose, **o: real(m, v, dose or 1e-3, **o))


def longer_doses(monkeypatch, model, stack):
    from lens_emotion.steering import hooks as interventions

    real = interventions.displacement
    monkeypatch.setattr(interventions, "displacement", lambda v, dose: 1.01 * real(v, dose))


def positions_of_the_pass(monkeypatch, model, stack):
    """Token indices counted within the present forward pass, so that steering misses what is generated."""
    from lens_emotion.steering.hooks import Tracker

    def go_on(self, new):
        self._mask = self._choose(torch.arange(new).expand(len(self._seen), new), self._length)

    monkeypatch.setattr(Tracker, "_go_on", go_on)


def rows_swapped(monkeypatch, model, stack):
    from lens_emotion.steering import hooks

    real = hooks.stack_edits
    monkeypatch.setattr(hooks, "stack_edits", lambda edits, d: real([*edits[1:], edits[0]], d))


def bos_twice(monkeypatch, model, stack):
    monkeypatch.setattr(reading, "encode", lambda model, text: [encode(model, text)[0], *encode(model, text)])


def markers_pooled(monkeypatch, model, stack):
    monkeypatch.setattr(prompting, "special_ids", lambda model: frozenset())


def one_matrix_only(monkeypatch, model, stack):
    """The identity of before: of one kind of matrix."""
    real = identity._checkpoint
    monkeypatch.setattr(identity, "_checkpoint", lambda root: (p for p in real(root) if "down_proj" in p[0]))


def half_precision_files(monkeypatch, model, stack):
    from lens_emotion.vectors import emotion_vectors

    real = emotion_vectors.write_tensors

    def rounded(path, kind, tensors, *more):
        return real(path, kind, {n: t.bfloat16().float() for n, t in tensors.items()}, *more)

    monkeypatch.setattr(emotion_vectors, "write_tensors", rounded)


def hooks_stay(monkeypatch, model, stack):
    @contextmanager
    def leaky(model, vector, dose, **options):
        for name, function in steering_hooks(vector, dose, layers=2):
            model.hook_dict[name].add_hook(function)
        yield

    stack.callback(model.reset_hooks)
    monkeypatch.setattr(steering, "steer", leaky)


def other_weights(monkeypatch, model, stack):
    real = copies.weights_of_source

    def changed(*args):
        plain = real(*args)
        with torch.no_grad():
            copies.blocks_of(plain)[3].mlp.down_proj.weight.mul_(1.01)
        return plain

    monkeypatch.setattr(copies, "weights_of_source", changed)


def seeds_ignored(monkeypatch, model, stack):
    real, counter = decoding.chooser, itertools.count()
    monkeypatch.setattr(decoding, "chooser", lambda s, seeds, *there: real(s, [next(counter) for _ in seeds], *there))


BROKEN = {
    "batch equals single": on_stream(lambda h: h + 0.01 * h.mean(0, keepdim=True)),
    "right pad equals left pad": on_stream(columns),
    "stopping before the head changes nothing": scaled_states,
    "extracting while generating equals re-reading the same prefix": one_step_late,
    "dose 0 is the identity to the bit": zero_is_not_zero,
    "adding a·v at layer L moves the projection on v at L by a": longer_doses,
    "cached decoding equals uncached, steered or not": positions_of_the_pass,
    "per-row steering equals row-by-row": rows_swapped,
    "first token": bos_twice,
    "special tokens": markers_pooled,
    "any weight counts": one_matrix_only,
    "each block computes what its source computes": other_weights,
    "save then load is bit-equal": half_precision_files,
    "hooks are gone after an exception": hooks_stay,
    "HookedTransformer, Bridge and plain Hugging Face hidden states agree": other_weights,
    "same seed, same result": seeds_ignored,
}


@pytest.mark.parametrize("name", list(NAMES))
def test_every_law_fails_where_it_is_broken_and_holds_again_afterwards(name, monkeypatch):
    model = tiny("tiny-llama", "bridge")
    with monkeypatch.context() as patch, ExitStack() as stack:
        BROKEN[name](patch, model, stack)
        report = check(model, laws=[NAMES[name]])
    assert not report.ok and name in report.summary()
    assert report.results[0].deviation > report.results[0].tolerance, report.results[0].note
    assert report.results[0].meaning
    assert check(model, laws=[NAMES[name]], compare=False).ok


def test_a_nan_never_passes():
    broken = torch.ones(3, 4)
    broken[1, 2] = float("nan")
    assert math.isnan(deviation(broken, torch.ones(3, 4))) and math.isnan(reading._worst([0.0, math.nan, 0.0]))
    assert not found(math.nan, 1.0).passed


def test_a_law_that_raises_has_failed_and_the_others_are_tried():
    def raises(subject):
        raise RuntimeError("no such attention\nmore")

    laws = [Law("raising", raises, "?"), Law("fine", lambda subject: found(0.0, 0.0), "?")]
    report = check(tiny(), laws=laws)
    assert [r.passed for r in report.results] == [False, True] and not report.ok
    assert report.results[0].note == "RuntimeError: no such attention"
    assert "1 of 2 laws hold" in report.summary() and "raising" in report._repr_html_()


def test_a_model_that_was_not_loaded_by_name_is_not_compared():
    model = load_model("tiny-gpt2", device="cpu")
    del model.lens_emotion_source
    result = check(model, laws=[NAMES[copies_law()]]).results[0]
    assert result.passed and "object" in result.skipped


@needs_hooked
def test_a_processed_model_is_refused():
    model = load_model("tiny-gpt2", backend="hooked", device="cpu")
    model.process_weights_(fold_ln=True, center_writing_weights=True, center_unembed=False)
    with pytest.raises(ProcessedModelError, match="no_processing"):
        check(model)


def test_vectors_of_the_user_are_tried_and_those_of_another_model_refused(vectors):
    law = [NAMES["adding a·v at layer L moves the projection on v at L by a"]]
    assert check(tiny(), vectors=vectors, laws=law).ok
    with pytest.raises(FingerprintError):
        check(tiny("tiny-mistral"), vectors=vectors, laws=law)


def test_half_precision_is_held_to_what_its_rounding_explains():
    report = check("tiny-llama", dtype="bfloat16", device="cpu", compare=False)
    assert report.ok, report.table[["law", "deviation", "note"]]
    rounding = report.table[(report.table.unit == "relative") & (report.table.skipped == "")]
    assert (rounding.tolerance > 1e-2).all() and rounding.deviation.max() > 1e-4


@pytest.mark.parametrize(("broken", "code"), [(False, 0), (True, 1)])
def test_the_command_exits_1_where_a_law_is_broken(broken, code, monkeypatch, capsys):

    one = Law("first token", lambda subject: found(2.0 if broken else 0.0, 0.0, "tokens"), "mend the tokenizer")
    monkeypatch.setattr("lens_emotion.laws.check.LAWS", (one,))
    monkeypatch.setattr(sys, "argv", ["lens-emotion", "check", "tiny-llama"])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr().out
    assert (stopped.value.code or 0) == code
    assert ("mend the tokenizer" in printed) == broken and "laws hold" in printed
