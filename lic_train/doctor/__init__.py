"""What is looked at before a week is spent.

A check is a public function of one :class:`~lic_train.doctor.patient.Patient` that yields findings,
in a file beside this one: `settings`, `images`, `files`, `step`. Checks are found, not listed.
"""
