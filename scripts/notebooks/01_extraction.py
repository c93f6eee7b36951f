# %% [markdown]
# # 01 · Extraction: one pass over the text
#
# A language model reads short labelled texts. We keep the residual stream after every block (`resid_post`), pooled to one
# row per text and layer. Everything else in this package works on those rows: only steering runs the model again.
#
# The notebook runs in seconds on a tiny model that ships with the package. **Change `MODEL` to run it on a real one**
# (a catalog name such as `"gpt2"`, a hub id, a local folder, or a `.gguf` file).

# %%
MODEL = "tiny-llama"

# %%
import lens_emotion as le

model = le.load_model(MODEL)
le.describe(model)

# %% [markdown]
# ## Which tokens are read?
#
# BOS, template tokens, pads and the first position (an attention sink with massive activations) never enter an average.
# `preview` shows what would be pooled.

# %%
for token in le.preview(model, "Anna was in the kitchen. She smiled at the cat.", le.story_mean(start=2)):
    print(f"{token.position:>3}  {token.role:<8} {token.token!r}")

# %% [markdown]
# ## Reading
#
# Every layer in one pass, without the LM head, on the model's own stimulus set.

# %%
acts = le.extract_comprehension(model)
acts

# %%
acts.table.groupby('emotion', sort=False)[['n_total', 'n_pooled', 'n_special']].mean().round(1).head(6)

# %% [markdown]
# ## Is there anything to find?
#
# Held-out decoding: nearest class mean on centred cosine, tested on topics the means have not seen. The grey band is what
# permuted labels reach; the best layer's p-value is corrected for having looked at all layers.

# %%
sweep = le.layer_sweep(acts)
print(sweep.summary())
le.plots.layer_sweep(sweep).show()

# %% [markdown]
# ## Vectors
#
# A vector is the difference between a class mean and a baseline; here the mean of all emotions (`"centred"`).
# Directions are unit vectors; their sizes are kept apart.
# `natural` is the size of the emotion itself: the unit of a steering dose.

# %%
vectors = le.emotion_vectors(acts)
vectors["calm"], 0.5 * vectors["calm"] - 0.3 * vectors["angry"]

# %%
similar = le.similarity(vectors, sweep.best_layer)
print(similar.summary())
le.plots.similarity(similar).show()

# %% [markdown]
# ## The number everyone reports, in company
#
# Mean pairwise cosine between the vectors looks like a measure of separation, but noise lowers it too. So it comes with
# held-out accuracy, split-half reliability and a label-permutation null, and with a plain verdict.

# %%
separated = le.separation(acts)
print(separated.summary())
le.plots.separation(separated).show()

# %% [markdown]
# ## Writing instead of reading
#
# Now the model writes one story per emotion and topic, and is read over what it wrote: with the instruction in front
# (*conditioned*), and the bare story again (*reread*). The two answer different questions.

# %%
generated = le.extract_generation(model, max_new_tokens=64)
print(generated.stories.items[0].text, "\n")
for acts_of in (generated.conditioned, generated.reread):
    print(f"{acts_of.header.variant:<28}", le.decoding(acts_of).summary())

# %% [markdown]
# The paper's own preset reads a single token in the middle of a greedy story. Five templates give five
# distinct texts per emotion, and the result says so.

# %%
jeong = le.extract_generation(model, preset="jeong", max_new_tokens=64).conditioned
print(le.separation(jeong).summary(layer=jeong.n_layers // 2))
print(*jeong.header.notes)

# %% [markdown]
# ## Keeping it
#
# Safetensors with a JSON header that knows the model; no pickle.

# %%
import tempfile, pathlib

with tempfile.TemporaryDirectory() as folder:
    path = vectors.save(pathlib.Path(folder) / "vectors.safetensors")
    print(le.EmotionVectors.load(path), f"{path.stat().st_size / 1e3:.0f} kB")
