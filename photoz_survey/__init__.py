"""Redshifts of whole surveys: scoring many files of cutouts on one machine or on a cluster."""
