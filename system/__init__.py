"""What the operating system gives: files, processes, signals, claims, downloads, logs. No torch."""
