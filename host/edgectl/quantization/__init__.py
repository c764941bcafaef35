"""Floating-point Model -> integer Model: calibration, rewriting, evaluation."""
