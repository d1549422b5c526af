"""Implementations of source.Source, one module per `object_configuration` of a Bucket."""
