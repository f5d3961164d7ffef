"""Models on the Hugging Face Hub: fetched, described and shared."""
