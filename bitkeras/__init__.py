"""bitkeras: Big Transfer networks, SimSiam on unlabelled medical images, and what to do with them.

Plain arguments in, Keras and NumPy objects out; no module of this package reads a flag, and no import
sets a seed, a policy or a strategy.
"""

__version__ = "0.1.0"
