"""The command line: flags and the order of calls; no mathematics."""

import os

# Before any command imports TensorFlow: its C++ start-up chatter would bury the lines that matter, and its errors
# still arrive as exceptions. Whoever wants it sets the variable to 0.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
