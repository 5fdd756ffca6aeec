"""Measurements beside other systems, and what a training of the paper's size asks for."""
