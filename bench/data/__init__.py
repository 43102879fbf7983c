"""Splits: synthetic, folders of videos, and prepared data sets."""
