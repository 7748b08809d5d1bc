"""Preflight checks: what is examined before a long run starts.

A check is a public function of one :class:`~lic_train.doctor.preflight.Preflight` that yields
findings, in a file beside this one: `settings`, `images`, `files`, `step`. Checks are found, not
listed.
"""
