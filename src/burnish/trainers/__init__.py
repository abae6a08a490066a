"""Trainers: one learner, one loop around it, and a short module for each kind of training."""
