"""A sweep: many runs that one command starts, resumes and sums up in a report.

::

    run       the command     ── plan     points, each with its identity
                              ├─ launchers  where points run ── point  one of them, a process
                              ├─ state    what is on disk of each, and whether it lives
                              └─ summary  rows, curves and report of those that are finished
"""
