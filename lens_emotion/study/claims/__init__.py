"""The paper's claims C1 to C8, each as a test that can fail."""
