"""Benchmarks: speed and memory of forecastlib, compared with other libraries on this machine.

``make bench`` runs all of them; a selection is run with, for instance::

    PYTHONPATH=tests python -m benchmarks --rounds 3 --only training dropout

Each side of a comparison runs in a separate process. The sides are interleaved, so that other load on the machine
affects all of them alike, and ratios are computed per round. The report has medians, with the fastest and the slowest
round.
"""
