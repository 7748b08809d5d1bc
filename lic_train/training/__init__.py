"""What makes weights better: loss, optimizers, schedules."""
