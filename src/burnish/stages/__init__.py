"""The stages: from a recipe to a report. The composition root: the only room that knows all
others."""
