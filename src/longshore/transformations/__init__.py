"""Implementations of transformation.Transformation, one module per `transformation` of a Job."""
