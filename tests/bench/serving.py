"""The other end of peer.py's pipe."""

import json
import os
import sys
import warnings

import torch


def serve(*functions):
    """Answers commands until the input ends: one JSON object a line comes in,
    {"command": NAME, arguments...}, and one goes out. Whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # devinterp warns of each seed and each nbeta
    commands = {function.__name__: function for function in functions}
    for line in sys.stdin:
        arguments = json.loads(line)
        answers.write(json.dumps(commands[arguments.pop("command")](**arguments)) + "\n")
        answers.flush()
