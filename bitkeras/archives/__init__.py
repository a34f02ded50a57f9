"""Whole archives, shard by shard: TFRecords of images, and features, on one machine or many.

Each shard is one task of a worker, from reading the images to renaming the finished file, so that a worker holds
an image or a batch at a time, and a killed job loses no more than the shards that were being written.
"""
