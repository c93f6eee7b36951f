# %% [markdown]
# # 03 · Geometry: which emotions are alike, and are they alike to people?
#
# Vectors have angles. Do opposites point apart, do the main axes follow valence and arousal, and does another model find the
# same emotions alike? With twenty emotions a pattern is easily seen in noise, so every question comes with its relabelling.
#
# **Change `MODEL` to run this on a real one**; `OTHER` is the model that it is compared with.

# %%
MODEL = "tiny-llama"
OTHER = "tiny-qwen"

# %%
import lens_emotion as le

model = le.load_model(MODEL)
acts = le.extract_comprehension(model)
vectors = le.emotion_vectors(acts)  # centred on the mean of all emotions
best = le.decoding(acts).best_layer
print(f"layer {best} of {acts.n_layers}, {len(vectors)} emotions")

# %% [markdown]
# ## Similarity
#
# Clustered, so that like stands beside like. **See:** blocks on the diagonal. Centred vectors are forced to a mean cosine
# near -1/(n-1), whatever the model: the mean is no result, the pattern is.

# %%
similar = le.similarity(vectors, best)
print(similar.summary())
le.plots.similarity(similar).show()

# %% [markdown]
# ## Valence and arousal
#
# The two largest principal components beside human ratings; colour is human valence and arousal in both panels. **See:** colours
# that sort along an axis, and |r| with p at most 0.05. **Noise:** mixed colours. Which component comes first differs between
# models, so look at both.

# %%
plane = le.circumplex(vectors, best, acts=acts)
print(plane.summary())
le.plots.circumplex(plane).show()

# %% [markdown]
# The axes are two of many. All distances between emotions against human distances, at every layer, do not depend on axes:

# %%
human = le.rsa_human(vectors, best)
print(human.summary())
le.plots.rsa_human(human).show()

# %% [markdown]
# ## Opposites
#
# Four pairs against all other pairs. **Noise:** the blue curve inside the band of relabelled emotions. With four pairs
# the test is weak, and the summary says when nothing can be told.

# %%
apart = le.opposites(vectors, best)
print(apart.summary())
le.plots.opposites(apart).show()

# %% [markdown]
# ## Another model
#
# Widths differ, so vectors cannot be compared; distances between emotions can. **See:** one broad blue region. The ceiling is
# how alike a model is to itself on other halves of the topics: rho cannot be expected to pass it.

# %%
other = le.load_model(OTHER)
others = le.extract_comprehension(other)
alike = le.rsa_activations(acts, others, best, le.decoding(others).best_layer, n_splits=5)
print(alike.summary())
le.plots.rsa(alike).show()
