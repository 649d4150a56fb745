"""One loop for every method: objectives, plans, stages by fingerprint, resume at the step, compute."""
