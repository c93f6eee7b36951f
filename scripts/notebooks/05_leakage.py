# %% [markdown]
# # 05 · Leakage: does steering bring out another language?
#
# The paper reports that Qwen, steered on English text, writes Chinese tokens of the right emotion. Three readings, from cheap to
# dear: the tokens a vector points at, the letters that steered texts hold, and the words among them.
#
# `tiny-qwen` was trained on a world in both languages, so that here the effect is planted: the notebook shows that the
# instruments find it. **Change `MODEL` to run this on a real one.**

# %%
MODEL = "tiny-qwen"
JUDGE = None

# %%
import lens_emotion as le
from lens_emotion.steering.judges import world_words
from lens_emotion.study.steps import choose_judge

model = le.load_model(MODEL)
acts = le.extract_comprehension(model)
vectors = le.emotion_vectors(acts)
best = le.decoding(acts).best_layer
print(f"{len(acts)} texts in {acts.header.stimuli}, best layer {best}")

# %% [markdown]
# ## Without generating: the logit lens
#
# Tokens that each vector raises most, and on the right the share of a script among its top 50 against random mixtures of the
# same texts. **See:** words of the emotion, in either script. **Noise:** open circles inside the grey bars. A vector need not
# bring out more Chinese than chance for Chinese words to be among its best.

# %%
tokens = le.lens(model, vectors, best, acts=acts)
print(tokens.summary())
le.plots.lens(tokens).show()

# %% [markdown]
# ## While generating: letters and words
#
# English openings, steered at growing doses. **See:** the emotion's curve above the grey one of random directions of the same
# length; filled marks are beyond it after correction over doses. **Noise:** both rising together: that is damage, which also
# brings out foreign letters. Below, where a bilingual word list is known: words of the right emotion against words of others.

# %%
texts = le.load_stimuli(acts.header.stimuli)
judge = choose_judge(model, acts, texts, le.StudyConfig(judge=JUDGE))
result = le.dose_response(
    model, vectors, le.scenarios(texts.name), judge, doses=(1, 2, 3, 8), max_new_tokens=24
)
bilingual = world_words("world-en-zh", "zh") if texts.name == "world-en-zh" else None
leaked = le.leakage(result, bilingual)
print(leaked.summary())
le.plots.leakage(leaked).show()

# %% [markdown]
# At the dose of the peak (which may be far beyond the surgical one: the texts are then broken), and at the surgical one:

# %%
columns = ["dose", "condition", "n", "foreign", "low", "high", "texts", "p_corrected"]
leaked.table[columns].style.hide().format({"dose": "{:g}"}, precision=3, na_rep="")

# %%
dose = result.surgical_dose or 3
rows = result.texts[(result.texts["dose"] == dose) & (result.texts["condition"] == "emotion")]
rows[["emotion", "prompt", "text"]].head(6).style.hide()

# %% [markdown]
# ## Which tokens of a text carry it?
#
# A text read token by token along a few vectors, in natural units. Only what is outside the band of random directions is more
# than chance (hover says so in a live notebook).

# %%
text = acts.records[3].text
scores = le.token_scores(model, vectors, text, emotions=["happy", "sad", "angry", "calm"], layer=best, acts=acts)
print(scores.summary())
le.plots.token_scores(scores).show()
