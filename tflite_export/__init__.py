"""From the best adapter to the files that a phone runs, listens with and trains.

The torch network is rebuilt as plain TensorFlow modules with the trained weights, converted with
builtin operators only, run by LiteRT and held against torch before it is published.
`docs/export.md` says what the files are, `docs/mobile.md` how an app uses them.

TensorFlow has a process of its own: only `convert.py` runs there, with what it imports (`layers.py`
and the graphs), and `converter.py` speaks with it. Weights travel as arrays in a file
(`blueprint.py`). Verifying, timing, listening and training on the device need LiteRT alone.
"""

import os

# Before TensorFlow is loaded, or it is too late. Level 2 keeps errors and drops the banners;
# without oneDNN, which conversion has no use for, TensorFlow does not announce it on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
