"""A server of pushed versions that speaks TensorFlow Serving's gRPC and REST, for laptops and tests, and its clients.

In production TensorFlow Serving itself does this. Everything here goes by the signatures that stand in a SavedModel;
no name of an input or output is known.
"""
