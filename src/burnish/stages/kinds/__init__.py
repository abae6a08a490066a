"""The kinds of stages, one torch-free module each, which ends in its row `STAGE`."""
