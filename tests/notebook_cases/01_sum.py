# ---
# jupyter:
#   accelerator: GPU
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A page without torch, for the tests

# %% tags=["parameters"]
preset: str = "laptop"  # the scale of the page
seed: int = 0  # added to the sum
recompute: bool = False  # compute anew instead of reading stored results
count: int = 3  # terms
scale: float = 0.5  # factor
label: str = "sum"  # what stands before the result
terms: list = [1]  # no type that a command line can set
end: str = ""  # how to end: raise, exit, interrupt

# %%
import json
import os
import signal
import sys
import threading
from pathlib import Path

total = scale * sum(range(count + 1)) + seed
print(f"{label} {total:.3f}")

# %% mystnb={"image": {"alt": "One \"grey\" = pixel"}}
from base64 import b64decode

from IPython.display import Image

Image(b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5E"
                "rkJggg=="))

# %%
if end == "raise":
    raise RuntimeError("no sum\nfor today")
if end == "exit":
    os._exit(1)
if end == "interrupt":
    os.kill(os.getppid(), signal.SIGINT)
    threading.Event().wait(60)
if recompute:
    (Path(os.environ["DEVLIB_RUNS"]) / "case.json").write_text(json.dumps(
        {"preset": preset, "seed": seed, "prefix": sys.prefix, "cwd": os.getcwd()}))
