"""One model of several classes (--joint): trained on all of them together, then handed over to each."""
