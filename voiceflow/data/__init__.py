"""Corpora on the way to batches: manifests, shards, masks."""
