"""A model behind HTTP: pictures posted, verdicts answered, and a page to try it. No torch."""
