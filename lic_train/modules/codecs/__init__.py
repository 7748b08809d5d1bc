"""One file per codec; a codec is found by its ``_target_``, so there is nothing to register."""
