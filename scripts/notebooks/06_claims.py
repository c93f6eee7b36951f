# %% [markdown]
# # 06 · The paper's claims, tested
#
# *Extracting and Steering Emotion Representations in Small Language Models* (arXiv 2604.04064) makes claims C1 to C8. Here each is a
# function from what was measured to a verdict (supported, not supported, undetermined, not testable here) with effect, interval,
# null and n. On a tiny model this checks the tool and is no finding about language models.
#
# **Change `MODEL` to run this on a real one**, and give `JUDGE` the folder of a sentence encoder. A run on a real model takes
# minutes, is stored step by step, and goes on where it stopped.

# %%
MODEL = "tiny-gpt2"
JUDGE = None

# %%
import tempfile

import lens_emotion as le

config = le.StudyConfig(
    models=(MODEL,), judge=JUDGE, doses=(1, 2, 3, 8), n_permutations=100, story_tokens=96, steered_tokens=24
)
run = le.run_study(config, tempfile.mkdtemp())
study = run.models[0]
print(run.claims.summary())

# %% [markdown]
# ## All verdicts
#
# One panel per claim, in the unit of its own effect. **See:** what the interval holds besides the mark. A claim without a number
# says why in words.

# %%
le.plots.claims(run.claims).show()

# %%
for claim in run.claims.of(study.info.name):
    print(f"{claim.code} {claim.verdict}: {claim.sentence}\n")

# %% [markdown]
# ## C1, the claim of the title: writing separates emotions better than reading
#
# The paper compares mean cosines, unpaired. Paired by topic, with held-out accuracy, the question is whether writing tells
# emotions apart better. **Noise:** an interval that holds 0.

# %%
print(study.versus.summary())
le.plots.compare(study.versus).show()

# %% [markdown]
# The same by the paper's presets and its cosine. Beware: a lower cosine is what noise gives too, so the accuracy of the same
# states stands below it.

# %%
print(study.versus_preset.summary())
print(study.jeong.separation.summary(study.jeong.layer))
le.plots.separation(study.jeong.separation).show()

# %% [markdown]
# ## C5, steering is causal
#
# k of n scenarios with the dose chosen on other openings, beside random directions and another emotion's vector.

# %%
if study.steering.surgical_dose:
    print(study.steering.cross_fitted().summary())
columns = ["dose", "form", "n", "emotion", "random", "other", "p"]
study.steering.forms[columns].style.hide().format({"p": "{:.2g}"}, precision=0)
