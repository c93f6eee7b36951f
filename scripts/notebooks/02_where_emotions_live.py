# %% [markdown]
# # 02 · Where emotions live: layers, anisotropy, reliability
#
# At which depth can a reader of the residual stream tell twenty emotions apart, and how would we know that it is not noise?
# Three curves over depth answer together, each with its null; the cosine that is usually printed alone comes last.
#
# **Change `MODEL` to run this on a real one** (a catalog name such as `"gpt2"`, a hub id, a local folder, a `.gguf` file).

# %%
MODEL = "tiny-llama"

# %%
import lens_emotion as le

model = le.load_model(MODEL)
acts = le.extract_comprehension(model)  # every layer, one pass
print(f"{len(acts)} texts, {acts.n_layers} layers, {len(acts.topics)} topics")

# %% [markdown]
# ## Held-out decoding
#
# Class means are learnt on some topics and tested on others. **See:** the curve far above the grey band, which is what permuted
# labels reach; filled marks are above it after correction for having looked at every layer. **Noise:** a curve inside the
# band, or hollow marks. The orange bar is the 95% interval of the best depth over topics: if it spans half of the model,
# "emotion lives at layer k" is not a finding.

# %%
sweep = le.layer_sweep(acts)
print(sweep.summary())
le.plots.layer_sweep(sweep).show()

# %% [markdown]
# Is the curve U-shaped, as the paper has it? A quadratic fit nearly always bends. The two-lines test asks for a slope of one sign
# before the break and of the other sign after it, both beyond chance, and can say no.

# %%
print(sweep.shape.summary() if sweep.shape else "too few layers for the two-lines test")

# %% [markdown]
# ## Which emotions are confused?
#
# **See:** the diagonal, and confusions between neighbours (calm with blissful). **Noise:** columns: a few emotions that get
# most of the texts whatever they say.

# %%
decoded = le.decoding(acts, n_permutations=20)
print(decoded.summary())
le.plots.confusion(decoded).show()

# %% [markdown]
# ## Anisotropy
#
# All states of a language model share a direction. The raw cosine of neutral texts says how much; the same texts centred, and
# random directions of the same covariance, are what it is read against. **See:** raw far above centred. It follows that an
# uncentred cosine between emotions says little: most of it is this shared part.

# %%
states = le.anisotropy(acts)
print(states.summary())
le.plots.anisotropy(states).show()

# %% [markdown]
# ## Reliability
#
# Vectors from one half of the topics against those from the other half. **See:** values near 1, above the band of permuted
# labels. **Noise:** about 0. The numbers on the right say how many topics a reliability of 0.9 would take, emotion by emotion.

# %%
halves = le.reliability(acts)
print(halves.summary())
le.plots.reliability(halves).show()

# %% [markdown]
# ## The usual number, in company
#
# Mean pairwise cosine between emotion vectors: lower looks better, and noise lowers it too. Read it only with the two panels
# below it.

# %%
separated = le.separation(acts)
print(separated.summary())
le.plots.separation(separated).show()
