"""From the best adapter to a file that runs on a phone.

The torch network is rebuilt as a plain TensorFlow module with the trained weights, converted with
builtin operators only, run by LiteRT and compared with torch before it is published.
`docs/export.md` says what the files hold.

TensorFlow takes seconds to import: only `graph.py` and `convert.py` import it, and `export.py`
imports those inside the function that converts.
"""

import os

# Before TensorFlow is loaded, or it is too late. Level 2 keeps errors and drops the banners;
# without oneDNN, which conversion has no use for, TensorFlow does not announce it on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
